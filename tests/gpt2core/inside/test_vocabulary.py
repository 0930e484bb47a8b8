"""Neurons and vectors as tokens, against the definitions in float64."""

import numpy as np
import pytest

from gpt2core import model
from gpt2core.inside.vocabulary import cosines, tokens_read, tokens_written


def test_what_a_neuron_reads_is_its_input_from_each_embedding_alone(small):
    """Through ln_2 with a divisor of 1 and no bias, from a stream that holds one embedding."""
    params, layer = small.params(), small.hparams.n_layer - 1
    block = params["blocks"][layer]
    wte = params["wte"].astype(np.float64)
    centred = (wte - wte.mean(axis=1, keepdims=True)) * block["ln_2"]["g"]
    expected = centred @ block["mlp"]["c_fc"]["w"][:, [3, 0]]
    assert tokens_read(params, layer, [3, 0]) == pytest.approx(expected, abs=1e-4)


def test_what_a_neuron_writes_is_what_its_row_does_to_every_logit(small):
    """The final norm in full: a stream with and without the row, at a divisor far from 0."""
    params, layer = small.params(), 0
    h = small.hparams
    row = params["blocks"][layer]["mlp"]["c_proj"]["w"][7].astype(np.float64)
    base = np.zeros((1, h.n_embd))
    scale = np.sqrt(row.var() + 1e-5)
    ln_f = {"g": params["ln_f"]["g"], "b": 0 * params["ln_f"]["b"]}
    expected = model.unembed(base + row, params["wte"], ln_f)[0] * scale
    assert tokens_written(params, layer, [7])[:, 0] == pytest.approx(expected, abs=1e-4)


def test_cosines_are_those_of_the_definition(small):
    params = small.params()
    wte, vector = params["wte"], params["wpe"][3]
    found = cosines(vector, wte)
    for id in (0, 5, small.hparams.n_vocab - 1):
        expected = vector @ wte[id] / np.linalg.norm(vector) / np.linalg.norm(wte[id])
        assert found[id] == pytest.approx(expected, abs=1e-5)
    assert cosines(wte[4], wte)[4] == pytest.approx(1, abs=1e-5)
    assert found.dtype == np.float32


def test_a_vector_without_length_is_near_nothing(small):
    wte = small.params()["wte"]
    wte[2] = 0
    assert cosines(wte[0], wte)[2] == 0
    assert not cosines(wte[2], wte).any()
