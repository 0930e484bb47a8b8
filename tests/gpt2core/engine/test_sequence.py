"""The tokens of a sequence: what each says of itself, and what it depends on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.engine.sequence import Sequence, rank_of
from gpt2core.sampling import SamplingParams, distribution

LOGITS = st.lists(st.integers(-3, 3), min_size=12, max_size=40)


@given(LOGITS)
def test_the_rank_is_the_place_in_the_order_of_probabilities_ties_by_id(numbers):
    logits = np.array(numbers, np.float32)  # [n_vocab]
    order = sorted(range(len(logits)), key=lambda id: (-logits[id], id))
    assert [rank_of(id, logits) for id in order] == list(range(1, len(logits) + 1))


@given(LOGITS, st.integers(0, 1000))
def test_a_token_knows_its_rank_and_its_sampling_probability(numbers, seed):
    logits = np.array(numbers, np.float32)  # [n_vocab]
    sampling = SamplingParams(temperature=0.7, top_k=8, seed=seed)
    token = Sequence([1], 5, 9, sampling).sample_next(logits)
    ids, probabilities = distribution(logits, sampling)
    chances = dict(zip(ids.tolist(), probabilities.tolist(), strict=True))
    assert token.sampling_probability == pytest.approx(chances[token.id])
    assert token.rank == rank_of(token.id, logits)
    if token.rank <= 10:
        assert token.candidates[token.rank - 1].id == token.id


FLAT = np.zeros(1000, np.float32)
HOT = SamplingParams(temperature=1.0, seed=7)


def test_a_sequence_that_is_continued_has_the_tokens_of_one_run():
    whole = Sequence([1, 2, 3], 20, 99, HOT)
    ids = [whole.sample_next(FLAT).id for _ in range(20)]
    for n_kept in (1, 7, 19):  # as after Stop, or after the text was cut back
        rest = Sequence([1, 2, 3, *ids[:n_kept]], 20 - n_kept, 99, HOT)
        assert [rest.sample_next(FLAT).id for _ in range(20 - n_kept)] == ids[n_kept:]
    steps = [Sequence([1, 2, 3, *ids[:n]], 1, 99, HOT).sample_next(FLAT).id for n in range(20)]
    assert steps == ids
    assert len(set(ids)) > 15  # each position has noise of its own


def test_without_a_seed_sequences_differ():
    params = SamplingParams(temperature=1.0)
    firsts = {Sequence([1], 1, 9, params).sample_next(FLAT).id for _ in range(5)}
    assert len(firsts) > 2
