"""The table piece -> id of a vocabulary, and the rules of OpenAI's models.

Below :mod:`gpt2core.tokenizer.bpe`, which encodes with it.
"""

from collections.abc import Iterable

from gpt2core.errors import ModelFileError
from gpt2core.tokenizer.added import AddedToken, Rules
from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.decoding import replace_surrogates

ENDOFTEXT = "<|endoftext|>"


class VocabularyError(ModelFileError):
    """Pieces, ids and merges that do not belong together."""


def build_vocabulary(merges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Piece -> id: the 256 byte symbols, then one piece a merge, then ``<|endoftext|>``."""
    pieces = [*byte_alphabet().values(), *(left + right for left, right in merges), ENDOFTEXT]
    return {piece: token_id for token_id, piece in enumerate(pieces)}


def default_rules(vocabulary: dict[str, int]) -> Rules:
    """The rules of OpenAI's models: ``<|endoftext|>`` is special, and ends a text."""
    end = vocabulary.get(ENDOFTEXT)
    if end is None:
        return Rules()
    token = AddedToken(ENDOFTEXT, end, special=True, normalized=False)
    return Rules((token,), end_ids=frozenset({end}))


def check_ids(encoder: dict[str, int]) -> None:
    """Raise VocabularyError unless each piece is text with an id of its own. Ids may have gaps."""
    unpaired = [piece for piece in encoder if replace_surrogates(piece) != piece]
    if unpaired:
        raise VocabularyError(f"the vocabulary has a piece that is not text: {unpaired[0]!a}.")
    ids = encoder.values()
    if any(type(i) is not int or i < 0 for i in ids) or len(set(ids)) < len(ids):
        raise VocabularyError("the vocabulary must give each piece an id of its own, from 0 up.")
