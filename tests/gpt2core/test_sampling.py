"""Each control does what its name says: temperature, top-k, top-p, seed."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.errors import InputError
from gpt2core.sampling import (
    MAX_SEED,
    MAX_TEMPERATURE,
    SamplingParams,
    distribution,
    draw,
    fresh_seed,
    log_softmax,
    most_likely,
    nucleus,
)

N_DRAWS = 20_000

LOGITS = np.array([1.0, 3.0, -2.0, 3.5, 0.0, 2.0, -60.0, 1.0], dtype=np.float32)

# Few different values, so that ties are common.
tied_logits = st.lists(st.integers(-3, 3), min_size=1, max_size=40).map(
    lambda values: np.array(values, dtype=np.float32)
)
any_logits = tied_logits | st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=40).map(
    lambda values: np.array(values, dtype=np.float32)
)


def softmax(logits, temperature=1.0):
    """Probabilities by the definition, in Python floats."""
    scaled = [(float(value) - float(logits.max())) / temperature for value in logits]
    powers = [math.exp(value) for value in scaled]
    return np.array([power / math.fsum(powers) for power in powers])


def ranked(scores):
    """Ids from the highest score to the lowest; of equal ones, the lower id first."""
    return sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))


def sample(logits, params, rng):
    """The two calls that engine/sequence.py makes for every token."""
    return draw(*distribution(logits, params), rng)


def draws(logits, params, n=N_DRAWS):
    rng = params.generator()
    return [sample(logits, params, rng) for _ in range(n)]


def as_dict(ids, probabilities):
    assert len(set(ids.tolist())) == len(ids) == len(probabilities)
    return dict(zip(ids.tolist(), probabilities.tolist(), strict=True))


# Temperature


@given(any_logits, st.integers(0, 5), st.floats(0.01, 1), st.integers(0, MAX_SEED))
def test_temperature_zero_is_greedy_whatever_the_other_parameters_are(logits, top_k, top_p, seed):
    params = SamplingParams(temperature=0, top_k=top_k, top_p=top_p, seed=seed)
    assert sample(logits, params, params.generator()) == ranked(logits)[0]
    ids, probabilities = distribution(logits, params)
    assert (ids.tolist(), probabilities.tolist()) == ([ranked(logits)[0]], [1.0])


def test_the_default_is_greedy():
    assert set(draws(LOGITS, SamplingParams(), 20)) == {3}


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 1.5, MAX_TEMPERATURE])
def test_temperature_divides_the_logits(temperature):
    ids, probabilities = distribution(LOGITS, SamplingParams(temperature=temperature))
    assert ids.tolist() == list(range(len(LOGITS)))
    np.testing.assert_allclose(probabilities, softmax(LOGITS, temperature), rtol=1e-5, atol=1e-30)


def test_a_higher_temperature_is_more_even():
    spreads = [
        distribution(LOGITS, SamplingParams(temperature=temperature))[1].max()
        for temperature in (0.2, 0.5, 1, 2, 5)
    ]
    assert spreads == sorted(spreads, reverse=True) and spreads[0] > spreads[-1] + 0.5


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-46, 1e-40, 1e-38, 1e-30, 1e-5])
@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature, top_k, top_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=1)
    ids, probabilities = distribution(LOGITS, params)
    assert as_dict(ids, probabilities)[3] == 1.0
    assert probabilities.sum() == 1.0
    assert set(draws(LOGITS, params, 50)) == {3}


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-3, 1.0, 5.0])
def test_two_equally_likely_tokens_share_at_any_temperature(temperature):
    logits = np.array([0, 7, 7], dtype=np.float32)
    ids, probabilities = distribution(logits, SamplingParams(temperature=temperature))
    shares = as_dict(ids, probabilities)
    assert shares[1] == shares[2] and shares[1] > 0.4


def test_a_low_temperature_still_tells_nearly_equal_logits_apart():
    logits = np.array([0.001, 0], dtype=np.float32)
    _, probabilities = distribution(logits, SamplingParams(temperature=0.001))
    np.testing.assert_allclose(probabilities, softmax(logits, 0.001), rtol=1e-4)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_logits_far_from_zero_do_not_overflow(shift):
    params = SamplingParams(temperature=0.5)
    logits = (LOGITS.astype(np.float64) + shift).astype(np.float32)
    np.testing.assert_allclose(distribution(logits, params)[1], softmax(logits, 0.5), atol=1e-6)


# Top-k


@given(any_logits, st.integers(1, 50), st.floats(0.3, 3))
def test_top_k_keeps_the_k_likeliest_ties_by_id(logits, k, temperature):
    ids, probabilities = distribution(logits, SamplingParams(temperature=temperature, top_k=k))
    assert ids.tolist() == ranked(logits)[:k]
    kept = softmax(logits, temperature)[ids]
    np.testing.assert_allclose(probabilities, kept / kept.sum(), rtol=1e-4, atol=1e-30)


@given(any_logits)
def test_top_k_zero_is_off(logits):
    ids, _ = distribution(logits, SamplingParams(temperature=1, top_k=0))
    assert ids.tolist() == list(range(len(logits)))


def test_top_k_one_is_greedy():
    assert set(draws(LOGITS, SamplingParams(temperature=2, top_k=1, seed=3), 50)) == {3}


# Top-p


def smallest_set(weights, p):
    """The fewest of ``weights``, highest first, whose share reaches ``p``; without rounding."""
    exact = [Fraction(float(weight)) for weight in weights]
    kept, reached = [], Fraction(0)
    for i in ranked(weights):
        kept.append(i)
        reached += exact[i]
        if reached >= Fraction(p) * sum(exact):
            return kept
    raise AssertionError("all weights together reach any p of at most 1")


whole_weights = st.lists(st.integers(1, 9), min_size=1, max_size=40)


@given(whole_weights, st.integers(1, 64).map(lambda n: n / 64))
def test_top_p_keeps_the_smallest_set_that_reaches_p(weights, p):
    # Small whole numbers and 64ths: sums are exact, so p is often reached to the bit.
    weights = np.array(weights, dtype=np.float32)
    assert nucleus(weights, p).tolist() == smallest_set(weights, p)


@given(any_logits, st.floats(0.01, 0.99), st.floats(0.3, 3))
def test_top_p_of_a_distribution_is_minimal_and_reaches_p(logits, p, temperature):
    ids, probabilities = distribution(logits, SamplingParams(temperature=temperature, top_p=p))
    full = softmax(logits, temperature)
    assert ids.tolist() == ranked(logits)[: len(ids)]
    assert full[ids].sum() >= p - 1e-5
    assert full[ids[:-1]].sum() < p + 1e-5
    np.testing.assert_allclose(probabilities, full[ids] / full[ids].sum(), rtol=1e-4)


@pytest.mark.parametrize("n", [255, 256, 257, 3000, 50_257])
def test_top_p_of_many_equal_tokens_takes_the_lowest_ids(n):
    # Far more than the first nucleus size.
    weights = np.ones(n, dtype=np.float32)
    assert nucleus(weights, 0.5).tolist() == list(range(math.ceil(n / 2)))
    assert nucleus(weights, 1.0).tolist() == list(range(n))


def test_top_p_one_is_off():
    ids, probabilities = distribution(LOGITS, SamplingParams(temperature=1, top_p=1.0))
    assert len(ids) == len(LOGITS)
    np.testing.assert_allclose(probabilities, softmax(LOGITS), rtol=1e-5, atol=1e-30)


def test_a_tiny_top_p_is_greedy():
    params = SamplingParams(temperature=5, top_p=1e-9, seed=2)
    assert set(draws(LOGITS, params, 50)) == {3}


def test_top_p_counts_after_temperature_and_after_top_k():
    # Of 4:2:1:1, top-k 2 leaves 4:2, of which the first alone is two thirds.
    logits = np.log(np.array([4, 2, 1, 1], dtype=np.float32))
    kept = {
        "top_p": SamplingParams(temperature=1, top_p=0.6),
        "top_k, top_p": SamplingParams(temperature=1, top_k=2, top_p=0.6),
        "hot, top_p": SamplingParams(temperature=5, top_p=0.6),
    }
    n_kept = {name: len(distribution(logits, params)[0]) for name, params in kept.items()}
    assert n_kept == {"top_p": 2, "top_k, top_p": 1, "hot, top_p": 3}


# Drawing

CONTROLS = [
    SamplingParams(temperature=1.0, seed=11),
    SamplingParams(temperature=0.6, seed=12),
    SamplingParams(temperature=3.0, seed=13),
    SamplingParams(temperature=1.0, top_k=3, seed=14),
    SamplingParams(temperature=1.5, top_p=0.8, seed=15),
    SamplingParams(temperature=2.0, top_k=5, top_p=0.7, seed=16),
]
CHI_SQUARE_999 = [0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32]  # by degrees of freedom


def controls_id(params):
    return f"t={params.temperature} k={params.top_k} p={params.top_p}"


@pytest.mark.parametrize("params", CONTROLS, ids=controls_id)
def test_tokens_are_drawn_as_often_as_their_probabilities_say(params):
    probabilities = softmax(LOGITS, params.temperature)
    kept = ranked(LOGITS)[: params.top_k or None]
    share, nucleus_ids = 0.0, []
    for i in kept:
        nucleus_ids.append(i)
        share += probabilities[i] / probabilities[kept].sum()
        if share >= params.top_p:
            break
    expected = probabilities[nucleus_ids] / probabilities[nucleus_ids].sum() * N_DRAWS

    counts = np.bincount(draws(LOGITS, params), minlength=len(LOGITS))
    assert counts[[i for i in range(len(LOGITS)) if i not in nucleus_ids]].sum() == 0
    likely = expected > 5  # the statistic is meant for cells that are met
    surplus = counts[nucleus_ids][likely] - expected[likely]
    assert (surplus**2 / expected[likely]).sum() < CHI_SQUARE_999[likely.sum() - 1]
    assert counts[nucleus_ids][~likely].sum() <= 20


@pytest.mark.parametrize("params", CONTROLS, ids=controls_id)
def test_the_same_seed_gives_the_same_tokens(params):
    assert draws(LOGITS, params, 200) == draws(LOGITS, params, 200)


def test_another_seed_gives_other_tokens():
    controls = [SamplingParams(temperature=1, seed=seed) for seed in range(20)]
    assert len({tuple(draws(LOGITS, params, 50)) for params in controls}) == 20


def test_without_a_seed_runs_differ():
    runs = {tuple(draws(LOGITS, SamplingParams(temperature=1), 50)) for _ in range(5)}
    assert len(runs) == 5


def test_each_token_takes_one_random_number_whatever_the_parameters():
    class CountingGenerator:
        def __init__(self):
            self.calls = 0

        def random(self):
            self.calls += 1
            return 0.5

    rng = CountingGenerator()
    for params in CONTROLS:
        sample(LOGITS, params, rng)
    assert rng.calls == len(CONTROLS)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.5, 0.999, 1 - 2**-53])
def test_each_random_number_draws_the_token_whose_interval_holds_it(number):
    class FixedGenerator:
        def random(self):
            return number

    logits = np.log(np.array([1, 2, 1], dtype=np.float32))  # shares 0-¼, ¼-¾, ¾-1
    expected = 0 if number < 0.25 else 1 if number < 0.75 else 2
    assert sample(logits, SamplingParams(temperature=1), FixedGenerator()) == expected


def test_a_token_is_a_python_int():
    for params in (SamplingParams(), *CONTROLS):
        assert type(sample(LOGITS, params, params.generator())) is int


def test_the_logits_are_not_changed():
    before = LOGITS.copy()
    for params in CONTROLS:
        sample(LOGITS, params, params.generator())
    log_softmax(LOGITS), most_likely(LOGITS, 3)
    np.testing.assert_array_equal(LOGITS, before)


def test_a_fresh_seed_is_valid_and_differs_each_time():
    seeds = {fresh_seed() for _ in range(50)}
    assert len(seeds) > 45
    for seed in seeds:
        assert type(seed) is int and SamplingParams(seed=seed).seed == seed


# Ranking and log-probabilities


@given(any_logits, st.integers(1, 60))
def test_most_likely_ranks_by_score_and_ties_by_id(logits, n):
    assert most_likely(logits, n).tolist() == ranked(logits)[:n]


def test_most_likely_of_a_whole_vocabulary():
    scores = np.random.RandomState(5).randint(0, 30, 50_257).astype(np.float32)  # full of ties
    assert most_likely(scores, 10).tolist() == ranked(scores)[:10]


@given(any_logits)
def test_log_softmax_is_its_definition(logits):
    logprobs = log_softmax(logits)
    assert logprobs.dtype == np.float32
    total = math.log(math.fsum(math.exp(float(x) - float(logits.max())) for x in logits))
    expected = [float(x) - float(logits.max()) - total for x in logits]
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5, atol=1e-5)


@given(any_logits)
def test_float32_stays_float32(logits):
    numpys = SamplingParams(temperature=np.float64(0.7), top_p=np.float64(0.9))
    for params in (SamplingParams(), numpys, *CONTROLS):
        assert distribution(logits, params)[1].dtype == np.float32


# Invalid parameters

BAD_VALUES = {
    "temperature": [-0.1, -5, 5.01, math.nan, math.inf, -math.inf, "1", None, True, [1], 1j],
    "top_k": [-1, -40, 2.5, math.nan, math.inf, "3", None, True],
    "top_p": [0, -0.1, 1.01, 2, math.nan, math.inf, "0.9", None, True],
    "seed": [-1, 2**32, 1.5, math.nan, math.inf, "7", True],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in BAD_VALUES.items() for value in values],
)
def test_an_invalid_parameter_is_an_error_that_names_it(field, value):
    with pytest.raises(InputError) as caught:
        SamplingParams(**{field: value})
    assert caught.value.field == field
    label = {"temperature": "Temperature", "top_k": "Top-k", "top_p": "Top-p", "seed": "Seed"}
    assert str(caught.value).startswith(f"{label[field]} is {value}; it must be ")


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"temperature": MAX_TEMPERATURE},
        {"temperature": np.float32(0.7)},
        {"top_k": 0},
        {"top_k": 10**9},
        {"top_k": np.int64(40)},
        {"top_p": 1},
        {"top_p": 1e-9},
        {"top_p": np.float64(0.9)},
        {"seed": None},
        {"seed": 0},
        {"seed": MAX_SEED},
        {"seed": np.uint32(7)},
    ],
    ids=str,
)
def test_the_limits_of_each_range_and_numpys_numbers_are_valid(values):
    params = SamplingParams(**{"temperature": 1.0, **values})
    assert sample(LOGITS, params, params.generator()) in range(len(LOGITS))


def test_parameters_cannot_be_changed():
    with pytest.raises(AttributeError):
        SamplingParams().temperature = 1.0
