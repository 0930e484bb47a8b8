"""The funnel shows the very draw that a generation makes."""

from itertools import pairwise

import numpy as np
import pytest

from gpt2core.engine.sequence import Sequence
from gpt2core.errors import InputError
from gpt2core.inside.funnel import funnel
from gpt2core.sampling import SamplingParams

LOGITS = np.random.RandomState(3).standard_normal(500).astype(np.float32) * 3
KINDS = {
    "plain": {"temperature": 1.0},
    "cool": {"temperature": 0.7, "top_k": 40},
    "nucleus": {"temperature": 1.2, "top_p": 0.8},
    "both": {"temperature": 0.9, "top_k": 50, "top_p": 0.9},
    "one": {"temperature": 1.0, "top_k": 1},
    "tiny": {"temperature": 1e-30, "top_k": 5},
    "greedy": {"temperature": 0.0, "top_k": 40, "top_p": 0.5},
}


N_PROMPT = 3


def generated(logits, params, n: int) -> list[int]:
    """The first ``n`` tokens of a generation whose every pass gives ``logits``."""
    sequence = Sequence([1] * N_PROMPT, n, 10_000, params)
    return [sequence.sample_next(logits).id for _ in range(n)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_drawn_token_is_the_one_that_a_generation_draws(kind):
    for seed in range(1000):
        params = SamplingParams(**KINDS[kind], seed=seed)
        assert funnel(LOGITS, params, N_PROMPT).token == generated(LOGITS, params, 1)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_of_a_generation_are_those_of_later_positions(kind):
    params = SamplingParams(**KINDS[kind], seed=12)
    drawn = [funnel(LOGITS, params, N_PROMPT + n).token for n in range(30)]
    assert drawn == generated(LOGITS, params, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_the_drawn_token_has_the_largest_sum(kind):
    for seed in range(50):
        found = funnel(LOGITS, SamplingParams(**KINDS[kind], seed=seed), N_PROMPT)
        assert found.drawn == found.sums.argmax()
        assert found.token == found.ids[found.drawn]


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_log_probability_and_noise_and_probabilities_add_up(kind):
    found = funnel(LOGITS, SamplingParams(**KINDS[kind], seed=1), N_PROMPT)
    likely = found.probabilities > 0
    np.testing.assert_array_equal(np.isfinite(found.sums), likely)
    expected = np.log(found.probabilities[likely].astype(float)) + found.noise[likely]
    np.testing.assert_allclose(found.sums[likely], expected)
    assert found.probabilities.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_keeps_part_of_the_one_before_and_its_share(kind):
    options = KINDS[kind]
    found = funnel(LOGITS, SamplingParams(**options, seed=1), N_PROMPT)
    assert [step.name for step in found.steps] == ["all", "temperature", "top_k", "top_p", "draw"]
    for wider, narrower in pairwise(found.steps):
        assert wider.n_kept >= narrower.n_kept >= 1
        assert wider.share >= narrower.share - 1e-12 > 0
    everything, after_temperature, after_top_k, after_top_p, drawn = found.steps
    assert everything.share == 1
    assert everything.n_kept == LOGITS.size and drawn.n_kept == 1
    assert after_top_p.n_kept == len(found.ids)
    if options["temperature"] and options.get("top_k"):
        assert after_top_k.n_kept == options["top_k"]


def test_shares_are_sums_of_probabilities_by_their_definition():
    found = funnel(LOGITS, SamplingParams(**KINDS["both"], seed=1), N_PROMPT)
    warm = np.exp(LOGITS.astype(np.float64) / 0.9)
    warm = np.sort(warm / warm.sum())[::-1]
    _, _, after_top_k, after_top_p, drawn = found.steps
    assert after_top_k.share == pytest.approx(warm[:50].sum(), abs=1e-5)
    assert after_top_p.share == pytest.approx(warm[: after_top_p.n_kept].sum(), abs=1e-5)
    # What top-p asks for: the fewest tokens that reach 0.9 of what top-k left.
    assert after_top_p.share >= 0.9 * after_top_k.share - 1e-6
    assert warm[: after_top_p.n_kept - 1].sum() < 0.9 * after_top_k.share
    assert drawn.share == pytest.approx(warm[found.drawn], abs=1e-6)


def test_the_models_own_probabilities_stand_beside_those_of_the_draw():
    found = funnel(LOGITS, SamplingParams(**KINDS["cool"], seed=1), N_PROMPT)
    own = np.exp(LOGITS.astype(np.float64))
    np.testing.assert_allclose(found.before, (own / own.sum())[found.ids], rtol=1e-4)


def test_without_a_seed_there_is_no_draw_to_show():
    with pytest.raises(InputError, match="seed") as caught:
        funnel(LOGITS, SamplingParams(temperature=1.0), N_PROMPT)
    assert caught.value.field == "seed"
