"""GPT-2's byte-level BPE tokenizer: text to token ids and back, exactly as OpenAI's does it.

The first and the last step of generating text. Encoding takes five steps::

    "Not all"  -> pre-tokens "Not", " all"           SPLIT_PATTERN
               -> bytes      4e 6f 74, 20 61 6c 6c   UTF-8
               -> symbols    N o t, Ġ a l l          byte_alphabet()
               -> merges     Not, Ġall               vocab.bpe, lowest rank first
               -> ids        3673, 477

In code, symbols are ids from the start: each byte has a token id, and a merge replaces two
ids by one. A *piece* is a token spelled in the byte alphabet (``Ġall``); its *bytes* are
what it stands for (``b" all"``).

Trap: a token is a sequence of bytes, not of characters. An emoji is often three tokens,
none of which is text by itself. :meth:`Encoder.decode` therefore joins all bytes before it
decodes them, and a stream goes through :class:`gpt2core.tokenizer.decoding.StreamDecoder`.

Invariants: ``decode(encode(text)) == text`` for every text that UTF-8 can encode; a lone
surrogate, which it cannot, becomes U+FFFD. ``encode`` never fails. The cache of
pre-tokens holds at most ``CACHE_SIZE`` entries beyond the vocabulary.

Sources: Sennrich et al. (2016) for BPE; OpenAI's released ``encoder.py`` for the byte
alphabet, the split pattern and the files.
"""

import heapq
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import regex

from gpt2core.errors import InputError, ModelFileError
from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.decoding import is_utf8, replace_surrogates
from gpt2core.tokenizer.pattern import SPLIT_PATTERN

ENDOFTEXT = "<|endoftext|>"


CACHE_SIZE = 32_768  # pre-tokens cached with their ids, beyond the vocabulary itself
LONG_PRE_TOKEN = 48  # symbols; from this length on the heap is faster than scanning
REMOVED = -1  # in place of an id that was merged into the one before it


class Merge(NamedTuple):
    """One merge as :meth:`Encoder.merge_by_scanning` records it.

    ``ranks`` are the ranks of all neighbouring pairs before it (None: no merge joins the
    pair), ``rank`` the lowest of them, ``position`` its index. ``ids`` are all ids after it.
    """

    rank: int
    position: int
    ranks: tuple[int | None, ...]
    ids: tuple[int, ...]


def build_vocabulary(merges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Piece -> id: the 256 byte symbols, then one piece a merge, then ``<|endoftext|>``."""
    pieces = [*byte_alphabet().values(), *(left + right for left, right in merges), ENDOFTEXT]
    return {piece: token_id for token_id, piece in enumerate(pieces)}


class Encoder:
    """A byte-level BPE tokenizer over one vocabulary.

    ``encoder`` maps piece -> id, ``decoder`` id -> piece, ``merge_ranks`` a pair of ids to
    the rank of the merge that joins it. Threads may share one.
    """

    def __init__(
        self, merges: Sequence[tuple[str, str]], encoder: dict[str, int] | None = None
    ) -> None:
        """``encoder`` is the table of an ``encoder.json``; without it, ids follow from merges.

        Raises ModelFileError if the two do not belong together.
        """
        # Every piece has an id.
        self.encoder = build_vocabulary(merges) if encoder is None else encoder
        check_ids(self.encoder)
        self.decoder = {token_id: piece for piece, token_id in self.encoder.items()}

        # Each byte starts as a token of its own, and each merge joins two tokens into one.
        symbols = byte_alphabet()
        try:
            self._byte_ids = [self.encoder[symbols[byte]] for byte in range(256)]
            pairs = [(self.encoder[left], self.encoder[right]) for left, right in merges]
            self._merged_ids = [self.encoder[left + right] for left, right in merges]
        except KeyError as error:
            raise ModelFileError(
                f"encoder.json and vocab.bpe do not belong together: no id for {error}."
            ) from error
        # The rank of a merge is its line in vocab.bpe, counted from 0.
        self.merge_ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._rank_of_id = {token_id: rank for rank, token_id in enumerate(self._merged_ids)}

        # A special token stands for its name, every other token for the bytes of its symbols.
        byte_of = {symbol: byte for byte, symbol in symbols.items()}
        self.special_tokens = {
            piece: token_id
            for piece, token_id in self.encoder.items()
            if piece == ENDOFTEXT or not byte_of.keys() >= set(piece)
        }
        self._bytes = {
            token_id: piece.encode()
            if piece in self.special_tokens
            else bytes(byte_of[symbol] for symbol in piece)
            for piece, token_id in self.encoder.items()
        }

        # Most pre-tokens are a token as they are: these are looked up instead of merged.
        self._whole_tokens = {
            self._bytes[token_id].decode(): (token_id,)
            for token_id in [*self._byte_ids, *self._merged_ids]
            if is_utf8(self._bytes[token_id])
        }
        self._cache: dict[str, tuple[int, ...]] = dict(self._whole_tokens)
        self._cache_limit = len(self._whole_tokens) + CACHE_SIZE

    @property
    def n_vocab(self) -> int:
        """Number of tokens, ``<|endoftext|>`` included (50,257 for GPT-2)."""
        return len(self.encoder)

    @property
    def endoftext(self) -> int | None:
        """The id of ``<|endoftext|>`` (50256 for GPT-2), or None if there is none."""
        return self.encoder.get(ENDOFTEXT)

    def encode(self, text: str, special_tokens: bool = False) -> list[int]:
        """Token ids of ``text``.

        ``<|endoftext|>`` in the text is encoded as ordinary characters, because a user
        may have typed it; with ``special_tokens`` it becomes the one special token::

            >>> encoder.encode("Not all<|endoftext|>", special_tokens=True)
            [3673, 477, 50256]
        """
        ids: list[int] = []
        if not special_tokens or not self.special_tokens:
            self._encode_ordinary(text, ids)
            return ids
        # The parentheses make split() return the special tokens between the other parts.
        names = sorted(self.special_tokens, key=len, reverse=True)
        pattern = "(" + "|".join(regex.escape(name) for name in names) + ")"
        for part in regex.split(pattern, text):
            if part in self.special_tokens:
                ids.append(self.special_tokens[part])
            else:
                self._encode_ordinary(part, ids)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Raises InputError for an id outside the vocabulary.
        """
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for. Raises InputError if there is no such token."""
        try:
            return self._bytes[int(token_id)]
        except KeyError:
            raise InputError(
                f"Token id {token_id} is not in the vocabulary of {self.n_vocab:,} tokens.",
                n_vocab=self.n_vocab,
            ) from None

    def merge_rank(self, token_id: int) -> int | None:
        """Rank of the merge that makes a token; None for single bytes and special tokens."""
        return self._rank_of_id.get(token_id)

    def byte_ids(self, text: str) -> list[int]:
        """The ids that BPE starts from: one for each byte of ``text``, which must be UTF-8."""
        return [self._byte_ids[byte] for byte in text.encode("utf-8")]

    def _encode_ordinary(self, text: str, ids: list[int]) -> None:
        """Append the ids of ``text``, in which special tokens are plain characters, to ``ids``."""
        cached = self._cache.get
        for pre_token in SPLIT_PATTERN.findall(replace_surrogates(text)):
            pre_token_ids = cached(pre_token)
            if pre_token_ids is None:
                pre_token_ids = self._encode_pre_token(pre_token)
                cached = self._cache.get  # the cache may have been replaced
            ids += pre_token_ids

    def _encode_pre_token(self, pre_token: str) -> tuple[int, ...]:
        """Ids of a pre-token that is not in the cache; adds it."""
        ids = self.byte_ids(pre_token)
        if len(ids) < LONG_PRE_TOKEN:
            merged = tuple(self.merge_by_scanning(ids))
        else:
            merged = tuple(self.merge_with_heap(ids))
        # A long pre-token rarely comes twice, and takes memory.
        if len(pre_token) < LONG_PRE_TOKEN:
            if len(self._cache) >= self._cache_limit:
                # Start over: simpler than evicting one by one, and common words return soon.
                self._cache = dict(self._whole_tokens)
            self._cache[pre_token] = merged
        return merged

    def merge_by_scanning(self, ids: list[int], record: list[Merge] | None = None) -> list[int]:
        """Merge the pair of lowest rank until no pair can be merged; ``ids`` is changed.

        This is BPE by its definition. Looking at every pair before each merge takes
        quadratic time, which is fast for a word. Appends each merge to ``record``, if given.
        """
        # A pair that no merge joins ranks behind all others.
        no_merge = len(self._merged_ids)
        rank_of = self.merge_ranks.get
        while len(ids) > 1:
            ranks = [rank_of(pair, no_merge) for pair in pairwise(ids)]
            rank = min(ranks)
            if rank == no_merge:
                break
            # Of equal ranks the leftmost is merged first.
            position = ranks.index(rank)
            ids[position : position + 2] = [self._merged_ids[rank]]
            if record is not None:
                known = tuple(None if one == no_merge else one for one in ranks)
                record.append(Merge(rank, position, known, tuple(ids)))
        return ids

    def merge_with_heap(self, ids: list[int]) -> list[int]:
        """The same merges as :meth:`merge_by_scanning` in O(n log n); ``ids`` is changed.

        A heap gives the pair of lowest rank, and a doubly linked list over the positions
        gives a symbol's neighbours. Without it, a text that is one very long word would
        take quadratic time.
        """
        ranks, end = self.merge_ranks, len(ids)
        # The neighbours of each position; -1 and ``end`` lie outside.
        previous_of = list(range(-1, end - 1))
        next_of = list(range(1, end + 1))
        # All pairs that a merge joins. Equal ranks are ordered by position: leftmost first.
        heap = [
            (ranks[pair], position, pair)
            for position, pair in enumerate(pairwise(ids))
            if pair in ranks
        ]
        heapq.heapify(heap)
        while heap:
            rank, left, pair = heapq.heappop(heap)
            right = next_of[left]
            # Trap: a merge leaves the pairs of its two symbols in the heap. Such a pair is
            # outdated, and is skipped because the ids at its positions have changed.
            if right == end or (ids[left], ids[right]) != pair:
                continue
            # The left position gets the new id; the right one leaves the linked list.
            ids[left] = self._merged_ids[rank]
            ids[right] = REMOVED
            following = next_of[right]
            next_of[left] = following
            if following < end:
                previous_of[following] = left
            # The new symbol makes a new pair with each of its neighbours.
            for start in (previous_of[left], left):
                if start >= 0 and next_of[start] < end:
                    pair = (ids[start], ids[next_of[start]])
                    if pair in ranks:
                        heapq.heappush(heap, (ranks[pair], start, pair))
        return [token_id for token_id in ids if token_id != REMOVED]


def check_ids(encoder: dict[str, int]) -> None:
    """Raise ModelFileError unless the ids are the whole numbers from 0 up, each once."""
    ids = encoder.values()
    if any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(ids))):
        raise ModelFileError("the vocabulary must give each piece an id of its own, from 0 up.")
