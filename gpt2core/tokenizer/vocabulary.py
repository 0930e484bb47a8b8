"""The files that a vocabulary comes in, and the tokenizers read from them.

Stands above :mod:`gpt2core.tokenizer.bpe` and below the loader. A model's folder may hold
OpenAI's ``vocab.bpe`` and ``encoder.json``, the same two as Hugging Face names them
(``merges.txt`` and ``vocab.json``), or one ``tokenizer.json``. GPT-2's own merges come
with this package, so that the tokenizer works without any model.

Invariant: a file that is not a byte-level BPE like GPT-2's raises ModelFileError; it never
gives a tokenizer with wrong ids.
"""

from functools import lru_cache
from pathlib import Path

from gpt2core.errors import ModelFileError
from gpt2core.files import read_json
from gpt2core.tokenizer.bpe import Encoder

VOCAB_PATH = Path(__file__).with_name("vocab.bpe")
# The file of merges and the file of ids, as OpenAI and as Hugging Face name them.
FILE_PAIRS = (("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json"))


@lru_cache(maxsize=1)
def default_encoder() -> Encoder:
    """GPT-2's own tokenizer, from the ``vocab.bpe`` beside this module."""
    return Encoder(read_merges(VOCAB_PATH))


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of pieces in a ``vocab.bpe``, lowest rank first.

    Raises ModelFileError if the file cannot be read or is not a list of pairs.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"the vocabulary {path} cannot be read: {error}") from error
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [line.split(" ") for line in lines if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ModelFileError(f"{path} is not a BPE vocabulary: every line must hold two pieces.")
    return [(left, right) for left, right in pairs]


def encoder_from_directory(directory: Path) -> Encoder:
    """The tokenizer of a model's folder; GPT-2's own if it has no vocabulary files.

    Raises ModelFileError if a file is damaged, or one of a pair is missing.
    """
    for merges_name, ids_name in FILE_PAIRS:
        merges_path, ids_path = directory / merges_name, directory / ids_name
        if merges_path.exists() and ids_path.exists():
            return Encoder(read_merges(merges_path), read_ids(ids_path))
        for present, missing in ((merges_path, ids_name), (ids_path, merges_name)):
            if present.exists():
                raise ModelFileError(
                    f"{directory} has {present.name} but not {missing}; a vocabulary needs both."
                )
    if (directory / "tokenizer.json").exists():
        return encoder_from_tokenizer_json(directory / "tokenizer.json")
    return default_encoder()


def read_ids(path: Path) -> dict[str, int]:
    """Piece -> id from an ``encoder.json``, with the ``added_tokens.json`` beside it, if any."""
    ids = read_json(path)
    added_path = path.with_name("added_tokens.json")  # tokens that a fine-tuning added
    return ids | read_json(added_path) if added_path.exists() else ids


def encoder_from_tokenizer_json(path: Path) -> Encoder:
    """The tokenizer in a Hugging Face ``tokenizer.json``.

    Raises ModelFileError unless it is a byte-level BPE that splits text as GPT-2's does.
    """
    values = read_json(path)
    try:
        model, splitter = values["model"], values["pre_tokenizer"]
        splits_like_gpt2 = (
            model["type"] == "BPE"
            and values.get("normalizer") is None
            and splitter["type"] == "ByteLevel"
            and splitter.get("use_regex", True)
            and not splitter["add_prefix_space"]
        )
        if not splits_like_gpt2:
            raise ModelFileError(f"{path} is not a byte-level BPE that cuts as GPT-2's does.")
        # Older files spell a merge "a b", newer ones ["a", "b"].
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        if any(len(pair) != 2 for pair in pairs):
            raise ModelFileError(f"{path} holds a merge that does not join two pieces.")
        merges = [(left, right) for left, right in pairs]
        added = {token["content"]: token["id"] for token in values.get("added_tokens", ())}
        return Encoder(merges, model["vocab"] | added)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a tokenizer.json: {error!r}") from error
