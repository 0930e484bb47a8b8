"""GPT-2's byte-level BPE tokenizer: text to token ids and back, exactly OpenAI's.

First and last stop of a prompt's journey. In four steps::

    "Not all"  -> words   "Not", " all"            SPLIT_PATTERN
               -> bytes   4e 6f 74, 20 61 6c 6c    UTF-8
               -> symbols N o t, Ġ a l l           byte_alphabet()
               -> merges  Not, Ġall                vocab.bpe, best rank first
               -> ids     3673, 477

A *piece* is a token spelled in the byte alphabet (``Ġall``); its *bytes* are what it
stands for (``b" all"``). A piece need not be a whole character: an emoji is often
three tokens, none of which is text by itself. That is why :meth:`Encoder.decode` joins
bytes first, and why streams go through :class:`StreamDecoder`.

Invariants: ``decode(encode(text)) == text`` for every text that UTF-8 can hold (a lone
surrogate, which it cannot, becomes U+FFFD); ``encode`` never fails; the word cache
never grows beyond ``CACHE_SIZE`` words; :meth:`Encoder.explain` tells what ``encode``
does because it runs the same code and keeps a record.

Source: Sennrich et al. (2016) for BPE; OpenAI's released ``encoder.py`` for the byte
alphabet, the split pattern and the files.
"""

import codecs
import heapq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import regex

from gpt2core.errors import InputError, ModelFileError
from gpt2core.store.folder import read_json

ENDOFTEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Clause:
    """One alternative of the split pattern: its name, its regex, and what it takes."""

    name: str
    pattern: str
    takes: str


# Where a text is cut before any merge; merges never cross these cuts. At each place the
# first clause that fits takes as much as it can.
SPLIT_CLAUSES = (
    Clause(
        "contraction",
        r"'s|'t|'re|'ve|'m|'ll|'d",
        "the end of an English contraction, in small letters and with a straight apostrophe",
    ),
    Clause("letters", r" ?\p{L}+", "letters of any script, with one space before them if any"),
    Clause("digits", r" ?\p{N}+", "digits and other numerals, with one space before them if any"),
    Clause(
        "signs",
        r" ?[^\s\p{L}\p{N}]+",
        "anything that is no letter, digit or white space: punctuation, symbols, emoji, "
        "combining marks; with one space before it if any",
    ),
    Clause(
        "spare white space",
        r"\s+(?!\S)",
        "white space at the end of the text; before a word, all but the last one, which is "
        "left for the word",
    ),
    Clause(
        "last white space",
        r"\s+",
        "the one white space left before a word that cannot take it, such as a newline",
    ),
)
SPLIT_PATTERN = regex.compile("|".join(clause.pattern for clause in SPLIT_CLAUSES))
# The same, telling which clause fitted: group 1 is the first.
CLAUSE_PATTERN = regex.compile("|".join(f"({clause.pattern})" for clause in SPLIT_CLAUSES))

VOCAB_PATH = Path(__file__).with_name("vocab.bpe")
CACHE_SIZE = 32_768  # words kept with their ids, beyond the vocabulary itself
LONG_WORD = 48  # symbols; from here on a heap beats looking at every pair again


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[int, str]:
    """One printable character for each of the 256 bytes: byte -> symbol.

    Bytes that print as themselves in Latin-1 keep their character; the other 68 take
    U+0100, U+0101 … in order, which makes the space (0x20) the famous ``Ġ`` (U+0120).
    In the order of the dict, the symbols are token ids 0 to 255.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(0x100 + len(alphabet) - len(printable))
    return alphabet


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of ``vocab.bpe``, best rank first. Raises ModelFileError if it is not one."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"the vocabulary {path} cannot be read: {error}") from error
    if lines[0].startswith("#version"):
        lines = lines[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    if not merges or any(len(pair) != 2 for pair in merges):
        raise ModelFileError(f"{path} is not a BPE vocabulary: every line must hold two pieces.")
    return merges


def build_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Piece -> id: the 256 byte symbols, one piece a merge, and ``<|endoftext|>``."""
    pieces = [*byte_alphabet().values(), *(a + b for a, b in merges), ENDOFTEXT]
    return {piece: i for i, piece in enumerate(pieces)}


@dataclass(frozen=True)
class MergeStep:
    """One merge inside a word.

    ``ranks`` are those of every neighbouring pair before it (None: a pair that no merge
    knows); the lowest, ``rank``, stood at ``at``. ``symbols`` is the word after it.
    """

    rank: int
    at: int
    left: str
    right: str
    ranks: tuple[int | None, ...]
    symbols: tuple[str, ...]

    @property
    def result(self) -> str:
        return self.left + self.right


@dataclass(frozen=True)
class Word:
    """One word of a text on its way to tokens.

    ``start`` is its first character's place in the text, ``clause`` what cut it out,
    ``symbols`` its bytes in the byte alphabet, ``pieces`` and ``ids`` its tokens.
    ``steps`` is None where the word was too long to keep a record of its merges.
    """

    text: str
    start: int
    clause: Clause
    symbols: tuple[str, ...]
    steps: tuple[MergeStep, ...] | None
    pieces: tuple[str, ...]
    ids: tuple[int, ...]

    @property
    def n_merges(self) -> int:
        return len(self.symbols) - len(self.ids)  # each makes one symbol of two


class Encoder:
    """A byte-level BPE tokenizer over one vocabulary.

    ``encoder`` maps piece -> id, ``decoder`` id -> piece, ``merge_ranks`` a pair of
    ids to the rank of its merge. Safe to share between threads.
    """

    def __init__(self, merges: list[tuple[str, str]], encoder: dict[str, int] | None = None):
        """``encoder`` is the id table of an ``encoder.json``; without it, ids follow from merges.

        Raises ModelFileError where the two do not belong together.
        """
        self.encoder = build_vocabulary(merges) if encoder is None else encoder
        ids = self.encoder.values()
        if any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(ids))):
            raise ModelFileError("the vocabulary must give each piece an id of its own, from 0 up.")
        self.decoder = {i: piece for piece, i in self.encoder.items()}
        symbols = byte_alphabet()
        try:
            self._byte_ids = [self.encoder[symbols[byte]] for byte in range(256)]
            pairs = [(self.encoder[a], self.encoder[b]) for a, b in merges]
            self._merged = [self.encoder[a + b] for a, b in merges]  # rank -> id
        except KeyError as error:
            raise ModelFileError(
                f"encoder.json and vocab.bpe do not belong together: no id for {error}."
            ) from error
        self._rank_of = {id: rank for rank, id in enumerate(self._merged)}
        self.merge_ranks = {pair: rank for rank, pair in enumerate(pairs)}
        to_byte = {symbol: byte for byte, symbol in symbols.items()}
        self.special_tokens = {
            piece: i
            for piece, i in self.encoder.items()
            if piece == ENDOFTEXT or any(c not in to_byte for c in piece)
        }
        self._bytes = {
            i: piece.encode() if piece in self.special_tokens else bytes(to_byte[c] for c in piece)
            for i, piece in self.decoder.items()
        }
        # Most words of a text are tokens as they stand: look those up without merging.
        self._whole_words = {
            self._bytes[i].decode(): (i,)
            for i in [*self._byte_ids, *self._merged]
            if is_utf8(self._bytes[i])
        }
        self._cache: dict[str, tuple[int, ...]] = dict(self._whole_words)
        self._cache_limit = len(self._whole_words) + CACHE_SIZE

    @property
    def n_vocab(self) -> int:
        """Number of tokens, ``<|endoftext|>`` included (50,257 for GPT-2)."""
        return len(self.encoder)

    @property
    def endoftext(self) -> int | None:
        """The id of ``<|endoftext|>`` (50256 for GPT-2), or None where there is none."""
        return self.encoder.get(ENDOFTEXT)

    def encode(self, text: str, special_tokens: bool = False) -> list[int]:
        """Token ids of ``text``.

        ``<|endoftext|>`` in the text is ordinary characters, as a person typed them,
        unless ``special_tokens`` is true.
        """
        if special_tokens and self.special_tokens:
            names = sorted(self.special_tokens, key=len, reverse=True)
            pattern = "(" + "|".join(regex.escape(name) for name in names) + ")"
            parts = regex.split(pattern, text)
        else:
            parts = [text]
        ids: list[int] = []
        for part in parts:
            if special_tokens and part in self.special_tokens:
                ids.append(self.special_tokens[part])
            else:
                self._encode_ordinary(part, ids)
        return ids

    def explain(self, text: str, max_symbols: int = 64) -> list[Word]:
        """How :meth:`encode` gets from ``text`` to ids: every word, every merge.

        Words of more than ``max_symbols`` bytes come without their steps, whose record
        grows with the square of the length.
        """
        return [
            self._explain_word(match[0], match.start(), match.lastindex, max_symbols)
            for match in CLAUSE_PATTERN.finditer(replace_surrogates(text))
        ]

    def decode(self, ids) -> str:
        """The text of ``ids``; bytes that are not UTF-8 show as U+FFFD.

        Raises InputError for an id outside the vocabulary.
        """
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """What token ``id`` stands for. Raises InputError if there is no such token."""
        try:
            return self._bytes[int(id)]
        except KeyError:
            raise InputError(
                f"Token id {id} is not in the vocabulary of {self.n_vocab:,} tokens.",
                n_vocab=self.n_vocab,
            ) from None

    def merge_rank(self, id: int) -> int | None:
        """Rank of the merge that makes token ``id``; None for single bytes and specials."""
        return self._rank_of.get(id)

    def _encode_ordinary(self, text: str, ids: list[int]) -> None:
        """Append the ids of ``text``, which holds no special token, to ``ids``."""
        cached = self._cache.get
        for word in SPLIT_PATTERN.findall(replace_surrogates(text)):
            word_ids = cached(word)
            if word_ids is None:
                word_ids = self._encode_word(word)
                cached = self._cache.get  # a full cache was replaced
            ids += word_ids

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Ids of one word that the cache lacks; remembers it."""
        symbols = [self._byte_ids[byte] for byte in word.encode("utf-8")]
        merge = self._merge_short if len(symbols) < LONG_WORD else self._merge_long
        word_ids = tuple(merge(symbols))
        if len(word) < LONG_WORD:  # a long word is rarely met twice, and costs memory
            if len(self._cache) >= self._cache_limit:
                # Starting over keeps the bound in one line; common words are back soon.
                self._cache = dict(self._whole_words)
            self._cache[word] = word_ids
        return word_ids

    def _explain_word(self, word: str, start: int, clause: int, max_symbols: int) -> Word:
        """``word`` with what :meth:`_merge_short` did to it; ``clause`` counts from 1."""
        byte_ids = [self._byte_ids[byte] for byte in word.encode("utf-8")]
        symbols, steps = self._pieces(byte_ids), None
        if len(byte_ids) > max_symbols:
            ids = self._merge_long(byte_ids)
        else:
            record: list[tuple[int, list[int], list[int]]] = []
            ids = self._merge_short(byte_ids, record)
            steps, before = [], symbols
            for rank, pair_ranks, ids_after in record:
                at, after = pair_ranks.index(rank), self._pieces(ids_after)
                known = tuple(r if r < len(self._merged) else None for r in pair_ranks)
                steps.append(MergeStep(rank, at, before[at], before[at + 1], known, after))
                before = after
            steps = tuple(steps)
        return Word(
            word, start, SPLIT_CLAUSES[clause - 1], symbols, steps, self._pieces(ids), tuple(ids)
        )

    def _pieces(self, ids: list[int]) -> tuple[str, ...]:
        return tuple(self.decoder[i] for i in ids)

    def _merge_short(self, ids: list[int], record: list | None = None) -> list[int]:
        """Merge the best-ranked pair until none is left, looking at every pair each time.

        ``record`` is given, for each merge, its rank, the ranks of all pairs (those that
        no merge knows rank behind all others), and the ids after it.
        """
        ranks, merged = self.merge_ranks, self._merged
        no_merge = len(merged)
        while len(ids) > 1:
            pair_ranks = [ranks.get(pair, no_merge) for pair in zip(ids, ids[1:], strict=False)]
            best = min(pair_ranks)
            if best == no_merge:
                break
            at = pair_ranks.index(best)
            ids[at : at + 2] = [merged[best]]
            if record is not None:
                record.append((best, pair_ranks, list(ids)))
        return ids

    def _merge_long(self, ids: list[int]) -> list[int]:
        """The same merges in O(n log n): a heap of pairs over a doubly linked list.

        Without it a text of one endless word would take quadratic time.
        """
        ranks, n = self.merge_ranks, len(ids)
        before, after = list(range(-1, n - 1)), list(range(1, n + 1))
        heap = [
            (ranks[pair], at, pair)
            for at, pair in enumerate(zip(ids, ids[1:], strict=False))
            if pair in ranks
        ]
        heapq.heapify(heap)
        while heap:
            rank, at, pair = heapq.heappop(heap)
            right = after[at]
            if right >= n or (ids[at], ids[right]) != pair:
                continue  # one of the two has been merged with another meanwhile
            ids[at], ids[right] = self._merged[rank], -1
            after[at] = after[right]
            if after[at] < n:
                before[after[at]] = at
            for left in (before[at], at):
                if left >= 0 and after[left] < n:
                    pair = (ids[left], ids[after[left]])
                    if pair in ranks:
                        heapq.heappush(heap, (ranks[pair], left, pair))
        return [i for i in ids if i >= 0]


class StreamDecoder:
    """Bytes in, complete characters out: text of a stream of tokens.

    Bytes of an unfinished character wait for the next call; bytes that can no longer
    become one come out as U+FFFD. ``flush()`` ends the text::

        >>> decoder = StreamDecoder()
        >>> decoder.feed(b"caf\\xc3"), decoder.feed(b"\\xa9"), decoder.flush()
        ('caf', 'é', '')
    """

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """Characters that ``data`` completes, possibly none."""
        return self._decoder.decode(data)

    @property
    def pending(self) -> bytes:
        """Bytes of an unfinished character that wait."""
        return self._decoder.getstate()[0]

    def flush(self) -> str:
        """What still waits, as U+FFFD; the decoder is then ready for a new text."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def token_spans(text: str, tokens: list[bytes]) -> list[tuple[int, int]]:
    """For each token of ``text``, the characters its bytes touch: ``text[start:end]``.

    ``tokens`` joined must be the UTF-8 of ``text``. Two tokens that share a character
    have overlapping spans.
    """
    char_of_byte: list[int] = []
    for at, char in enumerate(replace_surrogates(text)):
        char_of_byte += [at] * len(char.encode("utf-8"))
    spans, offset = [], 0
    for token in tokens:
        last = offset + len(token) - 1
        spans.append((char_of_byte[offset], char_of_byte[last] + 1))
        offset += len(token)
    return spans


def replace_surrogates(text: str) -> str:
    """``text`` with each lone surrogate, which UTF-8 cannot hold, as U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return regex.sub(r"[\ud800-\udfff]", "\ufffd", text)
    return text


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is whole characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=1)
def default_encoder() -> Encoder:
    """GPT-2's own tokenizer, from the ``vocab.bpe`` beside this module."""
    return Encoder(read_merges(VOCAB_PATH))


def encoder_from_directory(directory: Path) -> Encoder:
    """The tokenizer of a model's folder; GPT-2's own where it has no vocabulary files.

    Reads ``vocab.bpe`` and ``encoder.json``, or ``merges.txt`` and ``vocab.json`` as
    Hugging Face names the same two files (and ``added_tokens.json``), or its
    ``tokenizer.json``, which holds all of it.
    Raises ModelFileError where one of a pair is missing or damaged.
    """
    for merges_name, ids_name in (("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json")):
        merges_path, ids_path = directory / merges_name, directory / ids_name
        if merges_path.exists() != ids_path.exists():
            there, lacks = (
                (merges_name, ids_name) if merges_path.exists() else (ids_name, merges_name)
            )
            raise ModelFileError(
                f"{directory} has {there} but not {lacks}; a vocabulary needs both."
            )
        if merges_path.exists():
            ids = read_json(ids_path)
            if (directory / "added_tokens.json").exists():  # what a fine-tune put behind them
                ids |= read_json(directory / "added_tokens.json")
            return Encoder(read_merges(merges_path), ids)
    if (directory / "tokenizer.json").exists():
        return encoder_from_tokenizer_json(directory / "tokenizer.json")
    return default_encoder()


def encoder_from_tokenizer_json(path: Path) -> Encoder:
    """The tokenizer in a ``tokenizer.json``, which must be a byte-level BPE as GPT-2's is."""
    values = read_json(path)
    try:
        model, cutter = values["model"], values["pre_tokenizer"]
        same = (
            model["type"] == "BPE"
            and values.get("normalizer") is None
            and cutter["type"] == "ByteLevel"
            and cutter.get("use_regex", True)
            and not cutter["add_prefix_space"]
        )
        if not same:
            raise ModelFileError(f"{path} is not a byte-level BPE that cuts as GPT-2's does.")
        # Older files spell a merge "a b", newer ones ["a", "b"].
        merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        added = {token["content"]: token["id"] for token in values.get("added_tokens", ())}
        return Encoder(merges, model["vocab"] | added)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a tokenizer.json: {error!r}") from error
