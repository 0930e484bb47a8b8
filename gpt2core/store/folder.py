"""A model's folder: the names of its files, its hyper-parameters, what is missing or damaged.

Below the loader, the download and the conversion, which all work on the same folder.
``models/<name>/`` holds OpenAI's seven files, or ``hparams.json`` (``config.json`` from
Hugging Face) with ``model.safetensors``, or both for a while.

Invariants: a file under its own name is complete, because writers use a ``.part`` or a
temporary name and rename it at the end. No function here writes anything. A ``find_…``
function returns None, or the problem as the beginning of a sentence, without a full stop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpt2core.errors import ModelFileError
from gpt2core.files import file_size, read_json
from gpt2core.hparams import MODEL_SIZES, HParams

WEIGHTS_FILE = "model.safetensors"
HPARAMS_FILE = "hparams.json"
CONFIG_FILE = "config.json"
INDEX_FILE = "model.ckpt.index"
DATA_FILE = "model.ckpt.data-00000-of-00001"
# As OpenAI released them, small files first: the shape is known before the weights come.
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
    """How far the download or the conversion of a model is, over all its files.

    ``file`` is the one being written. ``note`` is empty, or a sentence for the user: a
    retry, another process at work.
    """

    phase: Literal["download", "convert"]
    file: str
    bytes_done: int
    bytes_total: int
    note: str = ""


ProgressCallback = Callable[[Progress], None]


def read_hparams(directory: Path) -> HParams:
    """Hyper-parameters from ``hparams.json`` or ``config.json``; from both they must be equal.

    Raises ModelFileError if there is neither, or as :func:`read_hparams_file` does.
    """
    stated = {
        name: read_hparams_file(directory / name)
        for name in (HPARAMS_FILE, CONFIG_FILE)
        if (directory / name).exists()
    }
    if not stated:
        raise ModelFileError(f"{directory} holds neither hparams.json nor config.json.")
    hparams, *others = stated.values()
    for other in others:
        for name, value in hparams.to_dict().items():
            if getattr(other, name) != value:
                raise ModelFileError(
                    f"{directory}: {name} is {value:,} in {HPARAMS_FILE} "
                    f"and {getattr(other, name):,} in {CONFIG_FILE}."
                )
    return hparams


def read_hparams_file(path: Path) -> HParams:
    """Hyper-parameters from one of the two files.

    Raises ModelFileError if it is damaged, and for a ``config.json`` of another network
    than GPT-2.
    """
    values = read_json(path)
    try:
        hparams = HParams.from_dict(values)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    check_architecture(values, hparams, path)
    return hparams


def has_tied_head(directory: Path) -> bool:
    """Whether the folder says that the output matrix is ``wte``, as it does if it says nothing."""
    path = directory / CONFIG_FILE
    return not path.exists() or read_json(path).get("tie_word_embeddings", True) is not False


def check_architecture(config: dict[str, Any], hparams: HParams, path: Path) -> None:
    """Raise ModelFileError if a ``config.json`` is of another network than GPT-2.

    The tensors of such a model may have the right names and shapes; only these settings
    show that its logits would be wrong.
    """
    accepted = {
        "model_type": ("gpt2",),
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "layer_norm_epsilon": (1e-5,),
        "n_inner": (4 * hparams.n_embd, None),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True, False),  # the weights show whether it matters
    }
    for setting, values in accepted.items():
        if setting in config and config[setting] not in values:
            raise ModelFileError(
                f"{path} sets {setting} to {config[setting]!r}; this GPT-2 runs only {values[0]!r}."
            )


def weights_bytes(directory: Path, otherwise: HParams | None = None) -> int:
    """Bytes of all weights as float32.

    By the folder's hyper-parameters, or by ``otherwise`` if it has none. Raises
    ModelFileError if it has none and ``otherwise`` is not given.
    """
    try:
        hparams = read_hparams(directory)
    except ModelFileError:
        if otherwise is None:
            raise
        hparams = otherwise
    return FLOAT32_BYTES * hparams.n_params


def download_progress(directory: Path, size: str, note: str = "") -> Progress:
    """How far the download of ``size`` is, by the files in its folder.

    Read from the disk, so that every process sees the same, whichever one downloads.
    """
    done = {
        name: file_size(directory / f"{name}{PART}") or file_size(directory / name)
        for name in OPENAI_FILES
    }
    current = next((name for name in OPENAI_FILES if not (directory / name).exists()), DATA_FILE)
    # The data file holds the weights and nothing else, so its size follows from the shape.
    rest = max(weights_bytes(directory, MODEL_SIZES[size]) - done[DATA_FILE], 0)
    bytes_done = sum(done.values())
    return Progress("download", current, bytes_done, bytes_done + rest, note)


def find_hparams_problem(path: Path) -> str | None:
    """Why ``path`` holds no hyper-parameters, or None."""
    try:
        read_hparams_file(path)
    except ModelFileError as error:
        return str(error).rstrip(".")
    return None


def find_checkpoint_problem(directory: Path) -> str | None:
    """Why the folder holds no complete TensorFlow checkpoint, by its files' names, or None.

    A conversion needs the hyper-parameters, the index and the data, and of ``encoder.json``
    and ``vocab.bpe`` both or neither.
    """
    for name in (HPARAMS_FILE, INDEX_FILE, DATA_FILE):
        if not (directory / name).exists():
            return f"{directory} lacks {name}"
    for name, other in (("encoder.json", "vocab.bpe"), ("vocab.bpe", "encoder.json")):
        if (directory / name).exists() and not (directory / other).exists():
            return f"{directory} has {name} but not {other}"
    return find_hparams_problem(directory / HPARAMS_FILE)


def find_data_problem(size: int, directory: Path) -> str | None:
    """Why ``size`` bytes of data are too few for the shape in ``directory``, or None."""
    needed = weights_bytes(directory)
    if size >= needed:
        return None
    return f"{DATA_FILE} is cut off: it has {size:,} bytes, and the weights alone take {needed:,}"
