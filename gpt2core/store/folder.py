"""A model's folder: what lies there, who may write it, whether it still fits.

Below the loader, the download and the conversion, which all work on the same folder:
``models/<name>/`` holds OpenAI's seven files, or ``hparams.json`` (``config.json`` in
the wider ecosystem) with ``model.safetensors``, and for a while both.

Invariants: a file under its own name is whole, because writers use a ``.part`` or a
temporary name and rename at the end; one process at a time writes a folder
(:func:`folder_lock`); looking at a folder changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import file_size, read_json
from gpt2core.hparams import MODEL_SIZES, HParams

WEIGHTS_FILE = "model.safetensors"
HPARAMS_FILE = "hparams.json"
INDEX_FILE = "model.ckpt.index"
DATA_FILE = "model.ckpt.data-00000-of-00001"
# As OpenAI released them, small ones first: the shape is known before the weights come.
OPENAI_FILES = (
    HPARAMS_FILE,
    "checkpoint",
    "encoder.json",
    "vocab.bpe",
    INDEX_FILE,
    "model.ckpt.meta",
    DATA_FILE,
)
PART = ".part"  # ending of a file still being downloaded
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Progress:
    """How far the preparing of a model is, over all its files.

    ``phase`` is ``"download"`` or ``"convert"``; ``file`` is what is being written.
    ``note`` is empty, or a sentence for the reader: a retry, another process at work.
    """

    phase: str
    file: str
    bytes_done: int
    bytes_total: int
    note: str = ""


ProgressCallback = Callable[[Progress], None]


def read_hparams(directory: Path) -> HParams:
    """Hyper-parameters from ``hparams.json``, or ``config.json`` in its place."""
    for name in (HPARAMS_FILE, "config.json"):
        if (directory / name).exists():
            return read_hparams_file(directory / name)
    raise ModelFileError(f"{directory} holds neither hparams.json nor config.json.")


def read_hparams_file(path: Path) -> HParams:
    """Hyper-parameters from one of the two files.

    Raises ModelFileError where it is damaged, and for a ``config.json`` that asks for
    something GPT-2 does not do.
    """
    values = read_json(path)
    hparams = HParams.from_dict(values)
    check_architecture(values, hparams, path)
    return hparams


def check_architecture(config: dict, hparams: HParams, path: Path) -> None:
    """Raise ModelFileError where a ``config.json`` is of a network that is not GPT-2's.

    The tensors of such a model may have the right names and shapes; only these settings
    tell that its logits would be wrong.
    """
    accepted = {
        "model_type": ("gpt2",),
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "layer_norm_epsilon": (1e-5,),
        "n_inner": (4 * hparams.n_embd, None),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    }
    for setting, values in accepted.items():
        if setting in config and config[setting] not in values:
            raise ModelFileError(
                f"{path} sets {setting} to {config[setting]!r}; this GPT-2 runs only {values[0]!r}."
            )


def weights_bytes(directory: Path, otherwise: HParams | None = None) -> int:
    """Bytes of all weights as float32, by the folder's hyper-parameters or ``otherwise``."""
    try:
        hparams = read_hparams(directory)
    except ModelFileError:
        if otherwise is None:
            raise
        hparams = otherwise
    return FLOAT32_BYTES * hparams.n_params


def download_progress(directory: Path, size: str, note: str = "") -> Progress:
    """How far the download of ``size`` is, by what lies in its folder.

    Read from the disk, so that every process sees the same, whichever downloads.
    """
    done = {
        name: file_size(directory / f"{name}{PART}") or file_size(directory / name)
        for name in OPENAI_FILES
    }
    current = next((name for name in OPENAI_FILES if not (directory / name).exists()), DATA_FILE)
    # The data holds the weights and nothing else, so its size follows from the shape.
    rest = max(weights_bytes(directory, MODEL_SIZES[size]) - done[DATA_FILE], 0)
    bytes_done = sum(done.values())
    return Progress("download", current, bytes_done, bytes_done + rest, note)


def hparams_fault(path: Path) -> str | None:
    """Why ``path`` holds no hyper-parameters, or None."""
    try:
        read_hparams_file(path)
    except ModelFileError as error:
        return str(error).rstrip(".")
    return None


def checkpoint_fault(directory: Path) -> str | None:
    """Why the folder holds no whole TensorFlow checkpoint, as far as names tell, or None.

    Of the seven files a conversion needs the shape, the index and the data, and of
    ``encoder.json`` and ``vocab.bpe`` both or neither.
    """
    for name in (HPARAMS_FILE, INDEX_FILE, DATA_FILE):
        if not (directory / name).exists():
            return f"{directory} lacks {name}"
    for name, other in (("encoder.json", "vocab.bpe"), ("vocab.bpe", "encoder.json")):
        if (directory / name).exists() and not (directory / other).exists():
            return f"{directory} has {name} but not {other}"
    return hparams_fault(directory / HPARAMS_FILE)


def data_fault(size: int, directory: Path) -> str | None:
    """Why data of ``size`` bytes cannot be of the shape that ``directory`` states, or None."""
    needed = weights_bytes(directory)
    if size >= needed:
        return None
    return f"{DATA_FILE} is cut off: it has {size:,} bytes, and the weights alone take {needed:,}"
