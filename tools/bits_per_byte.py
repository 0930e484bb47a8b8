"""How well a model predicts a text, in bits per byte, beside simpler ways to predict it.

Makes the figures of ``gpt2core/demo/README.md``, with NumPy alone::

    python tools/bits_per_byte.py held_out.txt --model demo --baselines tales.txt

Bits per byte is what an arithmetic coder would need that trusts the model: the sum of
``-log2 p`` over the text's tokens and the ``<|endoftext|>`` after each work, divided by
the text's UTF-8 bytes. Lines ``<|endoftext|>`` separate works and are no bytes, nor is the
newline before them.

- the *model*: ``gpt2core.scoring``, windows of ``n_ctx`` tokens that overlap by half, so that
  every token but the first few has at least ``n_ctx / 2`` before it;
- *unigram*: each token by its count in the training text, plus one;
- *trigram*: each token by the two before it, interpolated Kneser-Ney smoothing, one
  discount an order (Kneser and Ney, 1995; Chen and Goodman, 1999);
- *xz*, alone and as what the text adds to the compressed training text.

Not part of the package; ``train_demo.py`` makes what this measures.
"""

import argparse
import lzma
import math
import re
import sys
from pathlib import Path

import numpy as np

# The project is run from its checkout, and `python tools/…` does not look there.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpt2core.errors import GPT2Error, InputError
from gpt2core.scoring import engine_scorer, score_text
from gpt2core.store.loader import Model, load_model
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.vocabulary import default_encoder

# The newline before is part of it: a work between two of them ends with its last words.
BETWEEN_WORKS = re.compile(r"(?m)\n?^<\|endoftext\|>$\n?")


def read_works(path: Path) -> list[str]:
    """The works of a text: what lies between its lines ``<|endoftext|>``, nothing added.

    Raises InputError where the text cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the text {path} cannot be read: {error}") from error
    works = [work for work in BETWEEN_WORKS.split(text) if work.strip()]
    if not works:
        raise InputError(f"the text {path} is empty.")
    return works


def encode_works(works: list[str], encoder: Encoder) -> np.ndarray:
    """The ids of ``works``, ``<|endoftext|>`` before each and after the last. ``[n_ids]``"""
    ids = [encoder.endoftext]
    for work in works:
        ids += [*encoder.encode(work), encoder.endoftext]
    return np.array(ids)


def model_nats(model: Model, ids: np.ndarray) -> float:
    """``-ln p`` of ``ids[1:]``, added up, in windows that overlap by half."""
    scores = score_text(engine_scorer(model.engine()), ids.tolist(), model.hparams.n_ctx)
    return -float(scores.logprob.sum(dtype=np.float64))


def unigram_nats(train: np.ndarray, ids: np.ndarray, n_vocab: int) -> float:
    """``-ln p`` of ``ids[1:]``, added up, by how often each occurs in ``train``, plus one."""
    counts = np.bincount(train, minlength=n_vocab) + 1
    return float(-np.log(counts[ids[1:]] / counts.sum()).sum())


class Trigram:
    """An interpolated Kneser-Ney model of three tokens.

    ``p(c | a b)`` takes a discount from the count of each ``a b c`` seen and spends it on
    ``p(c | b)``, which counts not how often ``b c`` was seen but after how many different
    tokens; that one falls back on ``p(c)`` alike, and that one on all being equal.
    """

    def __init__(self, train: np.ndarray, n_vocab: int):
        ids = train.astype(np.int64)
        self.n_vocab = n_vocab
        # A run of tokens as one number, the last one counting single: abc // n is ab,
        # abc % n**2 is bc. 50,257 ** 3 fits an int64 well.
        trigrams, counts = np.unique(
            (ids[:-2] * n_vocab + ids[1:-1]) * n_vocab + ids[2:], return_counts=True
        )
        bigrams, n_before_bigram = np.unique(trigrams % n_vocab**2, return_counts=True)
        unigrams, n_before_unigram = np.unique(bigrams % n_vocab, return_counts=True)
        self._orders = [
            Order(unigrams, n_before_unigram, n_vocab),
            Order(bigrams, n_before_bigram, n_vocab),
            Order(trigrams, counts, n_vocab),
        ]

    def probabilities(self, a, b, c) -> np.ndarray:
        """``p(c | a b)`` for each of the places of three arrays of ids. ``3 × [n] -> [n]``"""
        a, b, c = (np.asarray(x, np.int64) for x in (a, b, c))
        n = self.n_vocab
        p = np.full(len(c), 1 / n)
        for order, gram in zip(self._orders, (c, b * n + c, (a * n + b) * n + c), strict=True):
            p = order.interpolate(gram, p)
        return p


class Order:
    """The counts of one order: of each gram, and of each context, which is all but its last."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, n_vocab: int):
        self.grams, self.counts, self.n_vocab = grams, counts, n_vocab
        # Grams are sorted, so those of one context lie side by side.
        self.contexts, first, self.n_kinds = np.unique(
            grams // n_vocab, return_index=True, return_counts=True
        )
        self.totals = np.add.reduceat(counts, first)
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        self.discount = once / (once + 2 * twice) if once else 0.5

    def interpolate(self, gram: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """What this order says of each ``gram``, the rest filled up with ``lower``. ``[n]``"""
        count = look_up(self.grams, self.counts, gram)
        total = look_up(self.contexts, self.totals, gram // self.n_vocab)
        n_kinds = look_up(self.contexts, self.n_kinds, gram // self.n_vocab)
        seen = np.maximum(total, 1)
        here = np.maximum(count - self.discount, 0) / seen
        return np.where(total > 0, here + self.discount * n_kinds / seen * lower, lower)


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each ``wanted`` among sorted ``keys``, 0 where it is none of them."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def trigram_nats(train: np.ndarray, ids: np.ndarray, n_vocab: int) -> float:
    """``-ln p`` of ``ids[1:]``, added up; the first is read as following two of ``ids[0]``."""
    padded = np.insert(ids, 0, ids[0])
    p = Trigram(train, n_vocab).probabilities(padded[:-2], padded[1:-1], padded[2:])
    return float(-np.log(p).sum())


def xz_bits(text: bytes, before: bytes = b"") -> int:
    """Bits that ``text`` adds to the ``.xz`` of ``before``; its header too if that is empty."""

    def size(data):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**27}]
        return 8 * len(lzma.compress(data, filters=filters))

    return size(before + text) - (size(before) if before else 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("text", type=Path, help="UTF-8 text to predict")
    add("--model", help="a model's name or folder, demo for instance")
    add("--models-dir", default="models", help="folder of models (models)")
    add("--baselines", type=Path, nargs="+", metavar="TEXT", help="training text of the others")
    args = parser.parse_args(argv)
    if not (args.model or args.baselines):
        parser.error("say what shall predict: --model, --baselines, or both.")
    try:
        report(args)
    except GPT2Error as error:
        print(f"bits_per_byte: {error}", file=sys.stderr)
        return 2
    return 0


def report(args: argparse.Namespace) -> None:
    """Print a line for each way to predict the text."""
    works = read_works(args.text)
    raw = "\n".join(works).encode()
    n_bytes = sum(len(work.encode()) for work in works)

    def line(name: str, nats: float, n_tokens: int):
        bits, each = nats / math.log(2) / n_bytes, nats / n_tokens
        print(f"{name:24}{bits:6.3f} bits per byte{each:8.3f} nats per token", flush=True)

    encoder = default_encoder()
    ids = encode_works(works, encoder)
    print(f"{args.text.name}: {n_bytes:,} bytes, {len(ids) - 1:,} tokens, {len(works)} works")
    if args.model:
        model = load_model(args.model, args.models_dir)
        own = encode_works(works, model.encoder)
        line(f"model {model.name}", model_nats(model, own), len(own) - 1)
    if args.baselines:
        train_works = [work for path in args.baselines for work in read_works(path)]
        train = encode_works(train_works, encoder)
        line("unigram", unigram_nats(train, ids, encoder.n_vocab), len(ids) - 1)
        line("trigram, Kneser-Ney", trigram_nats(train, ids, encoder.n_vocab), len(ids) - 1)
        before = "\n".join(train_works).encode() + b"\n"
        for name, bits in (
            ("xz -9, alone", xz_bits(raw)),
            ("xz -9, after training", xz_bits(raw, before)),
        ):
            print(f"{name:24}{bits / n_bytes:6.3f} bits per byte", flush=True)


if __name__ == "__main__":
    sys.exit(main())
