"""What a generated token says of itself: its rank and the probability it was drawn with."""

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
