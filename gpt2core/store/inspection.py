"""What a model's folder is made of, and why it loads or not: ``python -m gpt2core inspect``.

Stands above the loader, and reads a folder with the same functions, so that it cannot say
anything else than loading does.

Invariant: a fault in one part does not hide what is said of the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import format_bytes
from gpt2core.store.folder import find_checkpoint_problem, read_hparams
from gpt2core.store.loader import load_model
from gpt2core.store.shards import find_weights, weight_files, weights_size
from gpt2core.tokenizer.folder import TokenizerReading, read_tokenizer

SHOWN_NAMES = 12  # of files and tokens in one line
Line = tuple[str, str]  # label and text


@dataclass(frozen=True)
class Inspection:
    """What was found, and the first sentence of a refusal; None if the folder loads."""

    lines: tuple[Line, ...]
    refusal: str | None


def inspect_folder(directory: Path) -> Inspection:
    """What was found in a folder, what it means and what stands against loading it.

    Raises ModelFileError if there is no such folder. Reads all weights.
    """
    if not directory.is_dir():
        raise ModelFileError(f"{directory} is not a folder.")
    parts: dict[str, Callable[[Path], Iterator[Line]]] = {
        "files": files_lines,
        "tokenizer": tokenizer_lines,
        "shape": shape_lines,
        "weights": weights_lines,
        "rows": rows_lines,
    }
    lines: list[Line] = []
    refusals: list[str] = []
    for label, part in parts.items():
        if part is rows_lines and refusals:
            continue  # nothing can be said of rows, and loading would give the first refusal
        try:
            lines += part(directory)
        except ModelFileError as error:
            refusals.append(str(error))
            lines.append((label, f"refused: {error}"))
    lines.append(("result", "the folder is refused." if refusals else "the folder loads."))
    return Inspection(tuple(lines), next(iter(refusals), None))


def files_lines(directory: Path) -> Iterator[Line]:
    """The folder, and the files in it."""
    names = sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    yield "folder", str(directory)
    yield "files", listed(names) or "none"


def tokenizer_lines(directory: Path) -> Iterator[Line]:
    """Which file decides about the tokenizer, what the others change, what ends a text."""
    reading = read_tokenizer(directory)
    encoder = reading.encoder
    yield "tokenizer", f"from {reading.source}; {len(encoder.decoder):,} tokens"
    for note in reading.notes:
        yield "", note
    yield "text ends", f"with {named(reading, sorted(encoder.rules.end_ids)) or 'no token'}"


def shape_lines(directory: Path) -> Iterator[Line]:
    """The five hyper-parameters."""
    values = read_hparams(directory).to_dict()
    yield "shape", ", ".join(f"{name} {value:,}" for name, value in values.items())


def weights_lines(directory: Path) -> Iterator[Line]:
    """The file of the weights, or what there is instead."""
    path = find_weights(directory)
    if path is None:
        problem = find_checkpoint_problem(directory)
        yield "weights", problem or "a TensorFlow checkpoint, which can be converted"
        return
    n_files = len(weight_files(path))
    shards = f" ({n_files} shards)" if n_files > 1 else ""
    yield "weights", f"{path.name}{shards}, {format_bytes(weights_size(path))}"


def rows_lines(directory: Path) -> Iterator[Line]:
    """Load the model; which tokens have no row in its weights, and which rows no token."""
    model = load_model(str(directory.resolve()))
    reading = read_tokenizer(directory)
    without_row = sorted(i for i in model.encoder.decoder if i >= model.hparams.n_vocab)
    if without_row:
        yield "no row", f"{named(reading, without_row)}: never sampled, refused in a prompt"
    n_unused = len(model.unused_ids) + read_hparams(directory).n_vocab - model.hparams.n_vocab
    if n_unused:
        yield "no token", f"{n_unused:,} rows of the weights: never sampled"


def named(reading: TokenizerReading, ids: list[int]) -> str:
    """Tokens by piece and id: ``<|endoftext|> (50256)``."""
    return listed([f"{reading.encoder.decoder[one]} ({one})" for one in ids])


def listed(names: list[str]) -> str:
    """Names in a row, the first few of many."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
