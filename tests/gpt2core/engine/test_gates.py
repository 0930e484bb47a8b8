"""Gates scale and remove the parts of a model for chosen sequences, and for no other."""

import numpy as np
import pytest

import gpt2core.engine.engine
from gpt2core.engine.engine import Engine
from gpt2core.engine.gates import Gates
from gpt2core.errors import InputError
from gpt2core.model import gpt2
from tests.helpers.small_models import LONG, SMALL_MODELS, TOLERANCE

FACTORS = [0.0, 1.0, -2.5]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)


def random_gates(small) -> Gates:
    gates, random = Gates.ones(small.hparams), np.random.RandomState(1)
    for array in (gates.heads, gates.attn, gates.mlp):
        array[:] = random.choice(FACTORS, array.shape)
    return gates


def gated_params(small, gates: Gates) -> dict:
    """The weights of a model in which the same parts are scaled."""
    params, h = small.params(), small.hparams
    for layer, block in enumerate(params["blocks"]):
        attn, mlp = block["attn"]["c_proj"], block["mlp"]["c_proj"]
        rows = np.repeat(gates.heads[layer], h.n_embd // h.n_head)  # [n_embd]
        attn["w"] *= gates.attn[layer] * rows[:, None]
        attn["b"] *= gates.attn[layer]
        mlp["w"] *= gates.mlp[layer]
        mlp["b"] *= gates.mlp[layer]
    return params


def logits_of(engine, ids, gates=None):
    """Logits after a prompt and after one more token."""
    slot = engine.open(gates)
    logits = [engine.prefill(slot, ids[:-1]), engine.step([slot], ids[-1:])[0]]
    engine.close(slot)
    return np.stack(logits)  # [2, n_vocab]


def test_gates_are_the_same_as_scaled_weights(small):
    ids, gates = small.ids(), random_gates(small)
    logits = logits_of(Engine(small.params(), small.hparams, n_threads=2), ids, gates)
    params = gated_params(small, gates)
    expected = gpt2(ids, **params, n_head=small.hparams.n_head)[-2:]
    assert np.abs(logits - expected).max() <= TOLERANCE
    plain = gpt2(ids, **small.params(), n_head=small.hparams.n_head)[-2:]
    assert np.abs(expected - plain).max() > 10 * TOLERANCE


def test_gates_of_1_change_no_bit(small):
    engine, ids = Engine(small.params(), small.hparams), small.ids()
    ones = Gates.ones(small.hparams)
    np.testing.assert_array_equal(logits_of(engine, ids, ones), logits_of(engine, ids))


def test_gates_of_one_sequence_leave_those_beside_it_alone():
    small = LONG
    engine, ids = Engine(small.params(), small.hparams, 3), small.ids()
    gates = random_gates(small)
    slots = [engine.open(), engine.open(gates), engine.open()]
    texts = [ids[:5], ids[:70], ids[20:90]]
    for slot, text in zip(slots, texts, strict=True):
        engine.prefill(slot, text)
    logits = engine.step(slots[::-1], [7, 7, 7])[::-1]  # rows in another order than the slots
    for text, row, params in zip(
        texts, logits, [small.params(), gated_params(small, gates), small.params()], strict=True
    ):
        expected = gpt2([*text, 7], **params, n_head=small.hparams.n_head)[-1]
        assert np.abs(row - expected).max() <= TOLERANCE


def test_a_slot_that_is_opened_again_has_no_gates():
    small = SMALL_MODELS["one_head"]
    engine, ids = Engine(small.params(), small.hparams), small.ids()
    logits_of(engine, ids, random_gates(small))
    expected = gpt2(ids, **small.params(), n_head=small.hparams.n_head)[-2:]
    assert np.abs(logits_of(engine, ids) - expected).max() <= TOLERANCE


def test_gates_of_another_shape_or_not_finite_are_refused():
    small = SMALL_MODELS["released_spreads"]
    engine, ones = Engine(small.params(), small.hparams), Gates.ones(small.hparams)
    for wrong in (
        Gates(ones.heads.T, ones.attn, ones.mlp),
        Gates(ones.heads, ones.attn * np.nan, ones.mlp),
    ):
        with pytest.raises(InputError, match="gates of"):
            engine.open(wrong)
    assert engine.open() == 0
