"""Whatever runs together, each sequence gets what it would get alone, from the readable model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2core.engine import blas
from gpt2core.engine.engine import Engine
from gpt2core.hparams import HParams
from gpt2core.model import gpt2
from tests.helpers.small_models import SMALL_MODELS, SmallModel

TOLERANCE = 1e-4  # of a logit
N_SLOTS = 4

# Longer than one block of keys, so that sequences of different numbers of blocks meet.
LONG = SmallModel(
    HParams(n_vocab=150, n_ctx=140, n_embd=48, n_head=4, n_layer=2),
    seed=9, embedding=0.14, weight=0.14, bias=0.1, gain=0.3,
)  # fmt: skip
MODELS = {**SMALL_MODELS, "long": LONG}
PARAMS = {name: small.params() for name, small in MODELS.items()}


class Run:
    """Sequences on one engine, each compared with the readable model after every token."""

    def __init__(self, name: str, n_threads: int):
        self.hparams, self.params = MODELS[name].hparams, PARAMS[name]
        self.engine = Engine(self.params, self.hparams, N_SLOTS, n_threads=n_threads)
        self.texts: dict[int, list[int]] = {}  # slot -> what it must hold

    def arrive(self, ids, n_pieces):
        """A prompt, cut into pieces."""
        slot = self.engine.open()
        pieces = np.array_split(np.array(ids), min(n_pieces, len(ids)))
        for i, piece in enumerate(pieces, start=1):
            logits = self.engine.prefill(slot, piece.tolist(), more_follow=i < len(pieces))
        self.texts[slot] = list(ids)
        self.check(slot, logits)

    def step(self, slots, ids):
        logits = self.engine.step(slots, ids)
        assert logits.shape == (len(slots), self.hparams.n_vocab)
        for slot, id, row in zip(slots, ids, logits, strict=True):
            self.texts[slot].append(id)
            self.check(slot, row)

    def leave(self, slot):
        self.engine.close(slot)
        del self.texts[slot]

    def check(self, slot, logits):
        text = self.texts[slot]
        assert self.engine.length(slot) == len(text)
        expected = gpt2(text, **self.params, n_head=self.hparams.n_head)[-1]
        assert np.abs(logits - expected).max() <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(data=st.data())
def test_any_arrivals_lengths_and_leavings(name, data):
    run = Run(name, n_threads=data.draw(st.integers(1, 2)))
    id = st.integers(0, run.hparams.n_vocab - 1)
    for _ in range(data.draw(st.integers(1, 12))):
        room = [s for s, text in run.texts.items() if len(text) < run.hparams.n_ctx]
        choices = ["arrive"] * (len(run.texts) < N_SLOTS) + ["step", "step"] * bool(room)
        what = data.draw(st.sampled_from(choices + ["leave"] * bool(run.texts)))
        if what == "arrive":
            n_ids = data.draw(st.integers(1, run.hparams.n_ctx))
            at = data.draw(st.integers(0, run.hparams.n_ctx - n_ids))
            ids = MODELS[name].ids()[at : at + n_ids]
            run.arrive(ids, data.draw(st.integers(1, 4)))
        elif what == "step":
            slots = data.draw(st.lists(st.sampled_from(room), min_size=1, unique=True))
            run.step(slots, [data.draw(id) for _ in slots])
        else:
            run.leave(data.draw(st.sampled_from(sorted(run.texts))))


@pytest.mark.parametrize("n_slots", [1, 2, 3, 7, 8, 9, 25])
def test_any_number_of_sequences_at_once(n_slots):
    """Around the number of rows that go into one product."""
    params, hparams = PARAMS["long"], LONG.hparams
    engine = Engine(params, hparams, n_slots)
    texts = [LONG.ids()[n : 2 * n + 1] for n in range(n_slots)]
    slots = [engine.open() for _ in texts]
    for slot, text in zip(slots, texts, strict=True):
        engine.prefill(slot, text)
    logits = engine.step(slots, [text[0] for text in texts])
    for text, row in zip(texts, logits, strict=True):
        expected = gpt2([*text, text[0]], **params, n_head=hparams.n_head)[-1]
        assert np.abs(row - expected).max() <= TOLERANCE


@pytest.mark.skipif(not blas.has_small_kernels(), reason="only these kernels promise it")
@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=6),
    cut=st.integers(1, 130),
    n_threads=st.integers(1, 2),
)
def test_company_changes_not_one_bit(lengths, cut, n_threads):
    """Who else is decoded, how a prompt is cut, how many threads: the logits are the same."""
    params, hparams = PARAMS["long"], LONG.hparams
    crowd = Engine(params, hparams, len(lengths), n_threads=n_threads)
    texts = [LONG.ids()[:n] for n in lengths]
    slots = [crowd.open() for _ in texts]
    for slot, text in zip(slots, texts, strict=True):
        for piece in (text[:cut], text[cut:]):
            if piece:
                crowd.prefill(slot, piece)
    together = [crowd.step(slots, [7] * len(slots)) for _ in range(2)]
    loner = Engine(params, hparams, n_threads=1)
    for row, text in enumerate(texts):
        slot = loner.open()
        loner.prefill(slot, text)
        for logits in together:
            np.testing.assert_array_equal(loner.step([slot], [7])[0], logits[row])
        loner.close(slot)
