"""The two files that a vocabulary comes in, and GPT-2's own vocabulary.

Stands above :mod:`gpt2core.tokenizer.bpe` and below :mod:`gpt2core.tokenizer.folder`. A
model's folder may hold OpenAI's ``vocab.bpe`` and ``encoder.json``, or the same two as
Hugging Face names them, ``merges.txt`` and ``vocab.json``. GPT-2's own merges come with
this package, so that the tokenizer works without any model.
"""

from functools import lru_cache
from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import read_json
from gpt2core.tokenizer.bpe import Encoder

VOCAB_PATH = Path(__file__).with_name("vocab.bpe")
# The file of merges and the file of ids, as Hugging Face and as OpenAI name them.
FILE_PAIRS = (("merges.txt", "vocab.json"), ("vocab.bpe", "encoder.json"))

Vocabulary = tuple[list[tuple[str, str]], dict[str, int]]  # merges, and piece -> id


@lru_cache(maxsize=1)
def default_encoder() -> Encoder:
    """GPT-2's own tokenizer, from the ``vocab.bpe`` beside this module."""
    return Encoder(read_merges(VOCAB_PATH))


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of pieces in a ``vocab.bpe``, lowest rank first.

    Raises ModelFileError if the file cannot be read or is not a list of pairs.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"the vocabulary {path} cannot be read: {error}.") from error
    lines = text.split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [line.split(" ") for line in lines if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ModelFileError(f"{path} is not a BPE vocabulary: every line must hold two pieces.")
    if not text.endswith("\n"):
        # Half a piece is often a piece too. Other readers leave such a line out.
        raise ModelFileError(f"{path} is cut off: its last line has no end.")
    return [(left, right) for left, right in pairs]


def read_vocabulary(directory: Path, merges_name: str, ids_name: str) -> Vocabulary | None:
    """The merges and the ids of one pair of files, or None if either is missing."""
    merges_path, ids_path = directory / merges_name, directory / ids_name
    if not merges_path.exists() or not ids_path.exists():
        return None
    return read_merges(merges_path), read_json(ids_path)


def check_no_half(directory: Path) -> None:
    """Raise ModelFileError if one file of a pair is in the folder and the other is not."""
    for pair in FILE_PAIRS:
        for present, missing in (pair, pair[::-1]):
            if (directory / present).exists() and not (directory / missing).exists():
                raise ModelFileError(
                    f"{directory} has {present} but not {missing}; a vocabulary needs both."
                )
