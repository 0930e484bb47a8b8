"""A model's name or directory -> a ready :class:`Model`.

Top of the store: the page, the command line and notebooks get their models here, which
puts tokenizer, hyper-parameters and weights together. ``demo`` is the small model that
comes with the package; other names are folders under ``models_dir``.
:func:`prepare_model` downloads and converts, which may take minutes; :func:`load_model`
opens a model that is ready.

Invariants: the tokenizer, hyper-parameters and weights of a Model agree; otherwise loading
raises a ModelFileError that names the mismatch. Nothing writes to a model that is ready.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import Precision, pack
from gpt2core.errors import ModelFileError
from gpt2core.files import file_size
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.model import Params
from gpt2core.store.folder import (
    DATA_FILE,
    INDEX_FILE,
    OPENAI_FILES,
    WEIGHTS_FILE,
    ProgressCallback,
    download_progress,
    find_checkpoint_problem,
    find_data_problem,
    has_tied_head,
    read_hparams,
)
from gpt2core.store.packed_files import has_current_file, open_packed
from gpt2core.store.shards import find_weights, weights_size
from gpt2core.store.weights import check_finite, load_params
from gpt2core.store.widening import open_params
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.folder import encoder_from_directory
from gpt2core.tokenizer.vocabulary import default_encoder

DEMO_NAME = "demo"
DEMO_DIRECTORY = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Model:
    """A GPT-2 ready to run: name, tokenizer, hyper-parameters, weights (see ``model.py``).

    ``path`` is the file that the weights come from, or the index of its shards; None for a
    model made in memory. ``unused_ids`` have a row in the weights and are no token.
    """

    name: str
    encoder: Encoder
    hparams: HParams
    params: Params
    path: Path | None = None
    unused_ids: tuple[int, ...] = ()

    def engine(self, n_slots: int = 1, precision: Precision = "float32") -> Engine:
        """A new engine for it. Large models share their weights with all other processes."""
        if self.path is None:
            weights = pack(self.params, self.hparams, precision)
        else:
            # By the file's own shape, because wte may have more rows there than in ``params``.
            hparams = read_hparams(self.path.parent)
            weights = open_packed(self.path, hparams, load_params, precision)
        return Engine(weights, self.hparams, n_slots, unused_ids=self.unused_ids)


@dataclass(frozen=True)
class ModelState:
    """How much of a model is on this machine.

    ``"partial"`` is a download that has begun. ``bytes_done`` of ``bytes_total`` are here;
    the total is the size of the download, or of the files if there is nothing to download.
    """

    status: Literal["ready", "needs conversion", "partial", "missing"]
    bytes_done: int
    bytes_total: int


def model_directory(name: str, models_dir: str | Path = "models") -> Path:
    """The folder of model ``name``: the bundled one, one under ``models_dir``, or a path.

    It need not exist. Raises ModelFileError for an empty name, and for a folder that
    cannot be opened.
    """
    if not name:
        raise ModelFileError(f"the model's name is empty; {DEMO_NAME!r} is always there.")
    if name == DEMO_NAME:
        return DEMO_DIRECTORY
    inside = Path(models_dir) / name
    try:
        directory = inside if inside.is_dir() or not Path(name).is_dir() else Path(name)
        os.stat(directory / WEIGHTS_FILE)
    except (FileNotFoundError, NotADirectoryError):
        pass  # not ready, or no such folder
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise ModelFileError(f"model {name!r} cannot be looked for: {error}") from error
    return directory


def model_state(name: str = DEMO_NAME, models_dir: str | Path = "models") -> ModelState:
    """How much of model ``name`` is here. Quick: looks at names and sizes only."""
    directory = model_directory(name, models_dir)
    weights = find_weights(directory)
    if weights:
        size = weights_size(weights)
        return ModelState("ready", size, size)
    if not lacks_checkpoint(name, directory):
        size = sum(file_size(directory / file) for file in OPENAI_FILES)
        return ModelState("needs conversion", size, size)
    if name not in MODEL_SIZES:
        return ModelState("missing", 0, 0)
    download = download_progress(directory, name)
    return ModelState(
        "partial" if download.bytes_done else "missing", download.bytes_done, download.bytes_total
    )


def is_ready(directory: Path) -> bool:
    """Whether the folder holds weights that :func:`load_model` opens."""
    return find_weights(directory) is not None


def lacks_checkpoint(name: str, directory: Path) -> bool:
    """Whether there is no checkpoint to convert, or a released one whose data is cut off."""
    if find_checkpoint_problem(directory):
        return True
    if name not in MODEL_SIZES:
        return False
    # Other programs, such as picoGPT, leave a half-downloaded file under its own name.
    return find_data_problem(file_size(directory / DATA_FILE), directory) is not None


def prepare_model(
    name: str = DEMO_NAME,
    models_dir: str | Path = "models",
    progress: ProgressCallback | None = None,
) -> None:
    """Make model ``name`` ready to load: download missing files, convert the checkpoint.

    Does nothing for a model that is ready. Only the four released sizes are downloaded,
    from ``$GPT2_BASE_URL`` or OpenAI. Of several processes one works and the others wait;
    ``progress`` is called in each of them. An exception that it raises ends the work, and
    a later call continues it. Raises ModelFileError with the cause.
    """
    directory = model_directory(name, models_dir)
    if is_ready(directory):
        return
    if lacks_checkpoint(name, directory):
        if name not in MODEL_SIZES:
            raise ModelFileError(not_ready_message(name, directory))
        from gpt2core.store.checkpoint import check_tensorflow
        from gpt2core.store.download import download_model  # imports requests

        check_tensorflow()  # before half a gigabyte is downloaded that cannot be converted
        download_model(name, directory.parent, progress=progress)
    from gpt2core.store.checkpoint import convert_checkpoint  # a ready model never needs it

    convert_checkpoint(directory, progress)


def not_ready_message(name: str, directory: Path) -> str:
    """The sentence for a model that is not ready, with what to do about it."""
    problem = find_checkpoint_problem(directory)
    if name in MODEL_SIZES:
        return f"model {name!r} is not ready: `python -m gpt2core download {name}` makes it so."
    if not directory.is_dir():
        return (
            f"there is no model {name!r}: {directory} is not a folder. There are "
            f"{DEMO_NAME!r}, {', '.join(MODEL_SIZES)} and folders of your own."
        )
    if problem is None:
        return f"{directory} must be converted: `python -m gpt2core convert {directory}` does it."
    if (directory / INDEX_FILE).exists():
        return f"the checkpoint in {directory} cannot be converted: {problem}."
    return (
        f"{directory} holds neither {WEIGHTS_FILE} nor OpenAI's checkpoint files. "
        "A model in another format can be saved as safetensors by the tool that made it."
    )


def load_model(name: str = DEMO_NAME, models_dir: str | Path = "models") -> Model:
    """Load a model that is ready. Raises ModelFileError saying what is wrong or missing."""
    directory = model_directory(name, models_dir)
    path = find_weights(directory)
    if path is None:
        raise ModelFileError(not_ready_message(name, directory))
    hparams = read_hparams(directory)
    encoder = encoder_from_directory(directory)
    check_rows(encoder, hparams.n_vocab, directory)
    params = open_params(path, hparams, has_tied_head(directory))
    if not has_current_file(path, hparams):  # else they were checked when it was written
        check_finite(params, path)
    # Some tools pad the vocabulary to a round number. A row that is no token must never
    # be sampled.
    n_vocab = min(encoder.n_vocab, hparams.n_vocab)
    params["wte"] = params["wte"][:n_vocab]
    unused = tuple(token_id for token_id in range(n_vocab) if token_id not in encoder.decoder)
    return Model(name, encoder, replace(hparams, n_vocab=n_vocab), params, path, unused)


def check_rows(encoder: Encoder, n_rows: int, directory: Path) -> None:
    """Raise ModelFileError if a piece has no row in the weights. An added token may have none."""
    added = {token.id for token in encoder.rules.added_tokens}
    highest = max(token_id for token_id in encoder.decoder if token_id not in added)
    if highest >= n_rows:
        raise ModelFileError(
            f"{directory}: the vocabulary has ids up to {highest:,}, "
            f"the weights only {n_rows:,} rows."
        )


def load_encoder_hparams_and_params(
    model_size: str = "124M",
    models_dir: str | Path = "models",
    progress: ProgressCallback | None = None,
) -> tuple[Encoder, dict[str, int], Params]:
    """Tokenizer, hyper-parameters and weights of a model, downloaded if need be.

    The same call as in picoGPT: ``hparams`` is a plain dict, ``params`` the nested one. A
    download is reported to ``progress``, or shown as a bar on the terminal.
    """
    if progress is None:
        from gpt2core.terminal import ProgressBar

        with ProgressBar() as bar:
            prepare_model(model_size, models_dir, bar)
    else:
        prepare_model(model_size, models_dir, progress)
    model = load_model(model_size, models_dir)
    return model.encoder, model.hparams.to_dict(), model.params


def get_encoder(model_name: str = DEMO_NAME, models_dir: str | Path = "models") -> Encoder:
    """The tokenizer of a model; GPT-2's own if its folder holds no vocabulary (yet).

    Raises ModelFileError if there is no such model.
    """
    directory = model_directory(model_name, models_dir)
    if model_name in MODEL_SIZES and not is_ready(directory):
        return default_encoder()  # its own files, which may be incomplete yet, are the same
    if not directory.is_dir():
        raise ModelFileError(not_ready_message(model_name, directory))
    return encoder_from_directory(directory)


def get_hparams(model_name: str = DEMO_NAME, models_dir: str | Path = "models") -> HParams:
    """The hyper-parameters of a model, which are known before its weights are downloaded.

    Raises ModelFileError if there is no such model.
    """
    if model_name in MODEL_SIZES:
        return MODEL_SIZES[model_name]
    directory = model_directory(model_name, models_dir)
    if not directory.is_dir():
        raise ModelFileError(not_ready_message(model_name, directory))
    return read_hparams(directory)
