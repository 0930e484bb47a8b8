"""A model's name or directory -> a ready :class:`Model`.

The meeting point of ``hparams``, ``encoder`` and ``weights``: whoever wants a model
(page, command line, a notebook) asks here. ``demo`` is the small model that ships with
the package; other names are folders under ``models_dir``. :func:`prepare_model` makes a
model's files ready, which may take minutes; :func:`load_model` opens what is ready.

Invariants: a Model is whole (its tokenizer, hyper-parameters and weights agree, or
loading raised a sentence that says what does not); a model that is ready is only read.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from gpt2core.engine.engine import Engine
from gpt2core.engine.layout import open_layout
from gpt2core.errors import ModelFileError
from gpt2core.files import file_size
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.store.folder import (
    DATA_FILE,
    INDEX_FILE,
    OPENAI_FILES,
    WEIGHTS_FILE,
    ProgressCallback,
    checkpoint_fault,
    data_fault,
    download_progress,
    read_hparams,
)
from gpt2core.store.weights import load_params
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.vocabulary import default_encoder, encoder_from_directory

DEMO_NAME = "demo"
DEMO_DIRECTORY = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Model:
    """A GPT-2 ready to run: its name, tokenizer, shape and weights (see ``weights.py``).

    ``path`` is the file the weights come from; None for a model made in memory.
    """

    name: str
    encoder: Encoder
    hparams: HParams
    params: dict
    path: Path | None = None

    def engine(self, n_slots: int = 1) -> Engine:
        """An engine for it, on the layout that all processes share where there is one."""
        if self.path is None:
            return Engine(self.params, self.hparams, n_slots)
        # The file's own shape: it may have more rows than there are tokens.
        layout = open_layout(self.path, read_hparams(self.path.parent), load_params)
        return Engine(layout, self.hparams, n_slots)


@dataclass(frozen=True)
class ModelState:
    """What of a model is on this machine.

    ``status`` is ``"ready"``, ``"needs conversion"``, ``"partial"`` (a download has begun)
    or ``"missing"``; ``bytes_done`` of ``bytes_total`` have come. The total is what a
    download takes, or the size of what is there.
    """

    status: str
    bytes_done: int
    bytes_total: int


def model_directory(name: str, models_dir: str | Path = "models") -> Path:
    """The folder of model ``name``: the bundled one, one under ``models_dir``, or a path.

    Need not exist. Raises ModelFileError for an empty name, and for a folder that may not
    be looked into.
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
        pass  # not ready, or not there at all
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise ModelFileError(f"model {name!r} cannot be looked for: {error}") from error
    return directory


def model_state(name: str = DEMO_NAME, models_dir: str | Path = "models") -> ModelState:
    """What of model ``name`` is there. Looks at names and sizes only, so it is quick."""
    directory = model_directory(name, models_dir)
    if is_ready(directory):
        size = file_size(directory / WEIGHTS_FILE)
        return ModelState("ready", size, size)
    if not lacks_checkpoint(name, directory):
        size = sum(file_size(directory / file) for file in OPENAI_FILES)
        return ModelState("needs conversion", size, size)
    if name not in MODEL_SIZES:
        return ModelState("missing", 0, 0)
    download = download_progress(directory, name)
    status = "partial" if download.bytes_done else "missing"
    return ModelState(status, download.bytes_done, download.bytes_total)


def is_ready(directory: Path) -> bool:
    """Whether the folder holds weights that :func:`load_model` opens."""
    return (directory / WEIGHTS_FILE).exists()


def lacks_checkpoint(name: str, directory: Path) -> bool:
    """Whether there is no checkpoint to convert, or a released one whose data is cut off."""
    if checkpoint_fault(directory):
        return True
    # picoGPT and its like leave a half-downloaded file under its own name.
    return name in MODEL_SIZES and bool(data_fault(file_size(directory / DATA_FILE), directory))


def prepare_model(
    name: str = DEMO_NAME,
    models_dir: str | Path = "models",
    progress: ProgressCallback | None = None,
) -> None:
    """Make model ``name`` ready to load: download what is missing, convert what is not ours.

    Does nothing where it is ready. Only the four released sizes are downloaded, from
    ``$GPT2_BASE_URL`` or OpenAI. Of several processes one works and the others wait;
    ``progress`` is called in each, and an exception it raises ends the work, which a
    later call takes up again. Raises ModelFileError with the cause.
    """
    directory = model_directory(name, models_dir)
    if is_ready(directory):
        return
    if lacks_checkpoint(name, directory):
        if name not in MODEL_SIZES:
            raise ModelFileError(why_not_ready(name, directory))
        from gpt2core.store.checkpoint import check_tensorflow
        from gpt2core.store.download import download_model  # imports requests

        check_tensorflow()  # or all would come for nothing
        download_model(name, directory.parent, progress=progress)
    from gpt2core.store.checkpoint import convert_checkpoint  # what is ready needs no converter

    convert_checkpoint(directory, progress)


def why_not_ready(name: str, directory: Path) -> str:
    """The sentence for a model that cannot be loaded as its folder is, with what helps."""
    fault = checkpoint_fault(directory)
    if name in MODEL_SIZES:
        return f"model {name!r} is not ready: `python -m gpt2core download {name}` makes it so."
    if not directory.is_dir():
        return (
            f"there is no model {name!r}: {directory} is not a folder. There are "
            f"{DEMO_NAME!r}, {', '.join(MODEL_SIZES)} and folders of your own."
        )
    if fault is None:
        return f"{directory} must be converted: `python -m gpt2core convert {directory}` does it."
    if (directory / INDEX_FILE).exists():
        return f"the checkpoint in {directory} cannot be converted: {fault}."
    return (
        f"{directory} holds neither {WEIGHTS_FILE} nor OpenAI's checkpoint files. "
        "A model in another format can be saved as safetensors by the tool that made it."
    )


def load_model(name: str = DEMO_NAME, models_dir: str | Path = "models") -> Model:
    """Load a model that is ready. Raises ModelFileError saying what is wrong or missing."""
    directory = model_directory(name, models_dir)
    if not is_ready(directory):
        raise ModelFileError(why_not_ready(name, directory))
    hparams = read_hparams(directory)
    encoder = encoder_from_directory(directory)
    if encoder.n_vocab > hparams.n_vocab:
        raise ModelFileError(
            f"{directory}: the vocabulary has {encoder.n_vocab:,} tokens, "
            f"the weights only {hparams.n_vocab:,}."
        )
    path = directory / WEIGHTS_FILE
    params = load_params(path, hparams)
    # Some fill the vocabulary up to a round number. A row that stands for no token must
    # never be drawn.
    params["wte"] = params["wte"][: encoder.n_vocab]
    return Model(name, encoder, replace(hparams, n_vocab=encoder.n_vocab), params, path)


def load_encoder_hparams_and_params(
    model_size: str = "124M",
    models_dir: str | Path = "models",
    progress: ProgressCallback | None = None,
) -> tuple[Encoder, dict[str, int], dict]:
    """Tokenizer, hyper-parameters and weights of a model, downloaded if need be.

    The call that picoGPT's readers know: ``hparams`` is a plain dict, ``params`` the
    nested one. A download shows a bar on the terminal, or goes to ``progress``.
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
    """The tokenizer of a model; GPT-2's own where its folder holds no vocabulary (yet).

    Raises ModelFileError where there is no such model.
    """
    directory = model_directory(model_name, models_dir)
    if model_name in MODEL_SIZES and not is_ready(directory):
        return default_encoder()  # its own files, which may be coming just now, are the same
    if not directory.is_dir():
        raise ModelFileError(why_not_ready(model_name, directory))
    return encoder_from_directory(directory)


def get_hparams(model_name: str = DEMO_NAME, models_dir: str | Path = "models") -> HParams:
    """The shape of a model, which is known before its weights are there.

    Raises ModelFileError where there is no such model.
    """
    if model_name in MODEL_SIZES:
        return MODEL_SIZES[model_name]
    directory = model_directory(model_name, models_dir)
    if not directory.is_dir():
        raise ModelFileError(why_not_ready(model_name, directory))
    return read_hparams(directory)
