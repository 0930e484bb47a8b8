"""Penalties and biases change logits as OpenAI's reference says, before temperature."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.engine.penalties import NO_PENALTIES, Penalties, penalized
from gpt2core.engine.sequence import GenerationOptions, Sequence
from gpt2core.sampling import SamplingParams, log_softmax

LOGITS = np.arange(12, dtype=np.float32)  # [n_vocab]
NUMBERS = st.floats(-2, 2, width=32)


@given(NUMBERS, NUMBERS, st.dictionaries(st.integers(0, 11), NUMBERS), st.lists(st.integers(0, 11)))
def test_logits_change_as_the_reference_says(presence, frequency, bias, ids):
    counts = Counter(ids)
    changed = penalized(LOGITS, Penalties(presence, frequency, bias), counts)
    for id, logit in enumerate(LOGITS):
        c = counts[id]
        expected = logit - c * frequency - (c > 0) * presence + bias.get(id, 0)
        np.testing.assert_allclose(changed[id], expected, atol=1e-4)
    assert changed.dtype == np.float32
    assert LOGITS.tolist() == list(range(12))  # the model's own stay as they are


def test_without_penalties_the_logits_are_the_same_array():
    assert penalized(LOGITS, NO_PENALTIES, Counter([1])) is LOGITS


def tokens(n=6, sampling=None, **penalties):
    options = GenerationOptions(Penalties(**penalties), n_candidates=3)
    sequence = Sequence([1], n, 99, sampling or SamplingParams(), (), options)
    return [sequence.sample_next(LOGITS) for _ in range(n)]


def test_a_penalty_counts_what_was_generated_and_not_the_prompt():
    assert [token.id for token in tokens(presence=1.5)] == [11, 10, 11, 11, 11, 11]
    assert [token.id for token in tokens(frequency=1.5)] == [11, 10, 11, 9, 10, 8]


def test_a_bias_of_100_forces_a_token_and_of_minus_100_bans_it():
    assert {token.id for token in tokens(logit_bias={3: 100.0})} == {3}
    sampling = SamplingParams(temperature=2.0, seed=1)
    drawn = tokens(n=50, sampling=sampling, logit_bias={11: -100.0, 10: -100.0})
    assert {token.id for token in drawn} & {10, 11} == set()


def test_the_log_probabilities_stay_the_models_own():
    [token] = tokens(n=1, logit_bias={3: 100.0})
    assert token.logprob == log_softmax(LOGITS)[3]
    assert token.rank == 9 and len(token.candidates) == 3
