"""The commands about models: ``download``, ``convert``, ``models``, ``inspect``.

Part of the command line in ``cli.py``, which runs them and prints their errors. Each
``…_command`` adds its options to a parser and returns the function that runs it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from gpt2core.errors import GPT2Error
from gpt2core.files import file_size, format_bytes
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.settings import Settings
from gpt2core.store.checkpoint import convert_checkpoint
from gpt2core.store.folder import WEIGHTS_FILE, read_hparams
from gpt2core.store.inspection import inspect_folder
from gpt2core.store.loader import DEMO_NAME, model_directory, model_state, prepare_model
from gpt2core.terminal import ProgressBar, print_json, printable

Command = Callable[[argparse.Namespace], None]  # runs with the parsed arguments


def add_models_dir(parser: argparse.ArgumentParser) -> None:
    """``--models_dir``."""
    parser.add_argument(
        "--models_dir",
        default=Settings.from_environment("models_dir").models_dir,
        metavar="DIR",
        help="where models are kept (default: $GPT2_MODELS_DIR, else models)",
    )


def download_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``download``; returns the function that runs it."""
    parser.description = (
        "Make one of OpenAI's models ready: download its files, from $GPT2_BASE_URL or OpenAI, "
        "and convert them. An interrupted download continues where it stopped."
    )
    parser.add_argument("size", choices=MODEL_SIZES)
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        with ProgressBar() as bar:
            prepare_model(args.size, args.models_dir, bar)
        print_ready(model_directory(args.size, args.models_dir))

    return run


def convert_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``convert``; returns the function that runs it."""
    parser.description = (
        "Turn the TensorFlow checkpoint in a folder (hparams.json and model.ckpt.*) into "
        "model.safetensors beside it. The checkpoint is left as it is."
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a folder under --models_dir, or a directory"
    )
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        directory = model_directory(args.model, args.models_dir)
        if not directory.is_dir():
            raise GPT2Error(f"there is nothing to convert: {directory} is not a folder.")
        with ProgressBar() as bar:
            convert_checkpoint(directory, bar)
        print_ready(directory)

    return run


def inspect_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``inspect``; returns the function that runs it."""
    parser.description = (
        "Print what lies in a model's folder, which file decides about its tokenizer, and "
        "whether it loads or why not. Reads all weights; writes nothing."
    )
    parser.add_argument(
        "model", metavar="FOLDER", help="a folder under --models_dir, or a directory"
    )
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        inspection = inspect_folder(model_directory(args.model, args.models_dir))
        for label, text in inspection.lines:
            print(printable(f"{label:10}  {text}", sys.stdout))
        if inspection.refusal is not None:
            raise GPT2Error(inspection.refusal)

    return run


def print_ready(directory: Path) -> None:
    """Print that a model is ready, and which files are no longer needed."""
    print(f"{directory} is ready ({format_bytes(file_size(directory / WEIGHTS_FILE))}).")
    checkpoint = sum(file.stat().st_size for file in directory.glob("model.ckpt.*"))
    if checkpoint:
        print(f"Its model.ckpt.* files ({format_bytes(checkpoint)}) are no longer needed.")


def models_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``models``; returns the function that runs it."""
    parser.description = "List the models that are here or can be downloaded: size, state, folder."
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        models = [describe_model(name, args.models_dir) for name in model_names(args.models_dir)]
        if args.json:
            print_json({"models": models})
            return
        for model in models:
            n_params = f"{model['n_params']:,}" if model["n_params"] else "?"
            here = format_bytes(model["bytes"]) if model["bytes"] else "-"
            print(
                f"{model['name']:12}  {n_params:>13} parameters  {here:>8}  "
                f"{model['state']:16}  {model['directory']}"
            )

    return run


def model_names(models_dir: str) -> list[str]:
    """The bundled model, the released sizes, and every other folder under ``models_dir``."""
    root = Path(models_dir)
    folders = sorted(root.glob("[!.]*/")) if root.is_dir() else []
    return list(dict.fromkeys([DEMO_NAME, *MODEL_SIZES, *(folder.name for folder in folders)]))


class ModelDescription(TypedDict):
    """One model in the output of ``models --json``."""

    name: str
    n_params: int | None  # None if the hyper-parameters are unknown
    bytes: int
    state: str
    directory: str


def describe_model(name: str, models_dir: str) -> ModelDescription:
    """What ``models`` prints about one model."""
    directory = model_directory(name, models_dir)
    hparams: HParams | None
    try:
        hparams = read_hparams(directory)
    except GPT2Error:
        hparams = MODEL_SIZES.get(name)
    state = model_state(name, models_dir)
    return {
        "name": name,
        "n_params": hparams.n_params if hparams else None,
        "bytes": state.bytes_done,
        "state": state.status,
        "directory": str(directory),
    }
