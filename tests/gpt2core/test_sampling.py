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
    gumbel_noise,
    log_softmax,
    most_likely,
    nucleus,
    splitmix64,
    uniform_numbers,
)

N_DRAWS = 10_000

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


def sample(logits, params, position=0):
    """The two calls that engine/sequence.py makes for every token."""
    return draw(*distribution(logits, params), params.seed, position)


def draws(logits, params, n=N_DRAWS):
    """The tokens at the first ``n`` positions of a text, if all have these logits."""
    ids, probabilities = distribution(logits, params)
    return [draw(ids, probabilities, params.seed, position) for position in range(n)]


def as_dict(ids, probabilities):
    assert len(set(ids.tolist())) == len(ids) == len(probabilities)
    return dict(zip(ids.tolist(), probabilities.tolist(), strict=True))


# Temperature


@given(any_logits, st.integers(0, 5), st.floats(0.01, 1), st.integers(0, MAX_SEED))
def test_temperature_zero_is_greedy_whatever_the_other_parameters_are(logits, top_k, top_p, seed):
    params = SamplingParams(temperature=0, top_k=top_k, top_p=top_p, seed=seed)
    assert sample(logits, params) == ranked(logits)[0]
    ids, probabilities = distribution(logits, params)
    assert (ids.tolist(), probabilities.tolist()) == ([ranked(logits)[0]], [1.0])


def test_the_default_is_greedy():
    assert set(draws(LOGITS, SamplingParams(seed=1), 20)) == {3}


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


def chi_square(counts, expected):
    """The statistic, and the 99.9 % point of its distribution (Wilson and Hilferty)."""
    freedom = len(expected) - 1
    part = 2 / (9 * freedom)
    return ((counts - expected) ** 2 / expected).sum(), freedom * (
        1 - part + 3.09 * math.sqrt(part)
    ) ** 3


def test_a_hundred_tokens_are_drawn_as_often_as_their_probabilities_say():
    logits = (2 * np.random.RandomState(8).standard_normal(100)).astype(np.float32)
    counts = np.bincount(draws(logits, SamplingParams(1.0, seed=5)), minlength=100)
    expected = softmax(logits) * N_DRAWS
    often = expected > 5
    found, limit = chi_square(counts[often], expected[often])
    assert found < limit


def test_draws_of_neighbouring_seeds_and_positions_are_independent():
    # Four equally likely tokens: of neighbours, all sixteen pairs are equally frequent.
    ids, probabilities = np.arange(4), np.full(4, 0.25, dtype=np.float32)
    drawn = np.array(
        [[draw(ids, probabilities, seed, position) for position in range(60)] for seed in range(60)]
    )
    neighbours = {
        "the same seed, the next position": (drawn[:, :-1], drawn[:, 1:]),
        "the next seed, the same position": (drawn[:-1], drawn[1:]),
        "the next seed, the next position": (drawn[:-1, :-1], drawn[1:, 1:]),
        "the next seed, the position before": (drawn[:-1, 1:], drawn[1:, :-1]),
    }
    for name, (one, other) in neighbours.items():
        pairs = np.bincount((4 * one + other).ravel(), minlength=16)
        found, limit = chi_square(pairs, np.full(16, one.size / 16))
        assert found < limit, name


def test_numbers_of_neighbouring_seeds_and_positions_are_no_shifted_copies():
    ids = np.arange(2000)
    numbers = [uniform_numbers(seed, position, ids) for seed in (1, 2, 3) for position in (0, 1)]
    assert len(np.unique(numbers)) == 6 * len(ids)


def test_numbers_are_uniform_between_0_and_1():
    numbers = uniform_numbers(3, 14, np.arange(50_257))
    assert 0 < numbers.min() and numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    found, limit = chi_square(counts, np.full(100, len(numbers) / 100))
    assert found < limit


def test_the_generator_is_splitmix64():
    # The first numbers of the reference implementation (Vigna, splitmix64.c) from state 1234567.
    gamma, state = 0x9E3779B97F4A7C15, 1234567
    states = np.array([(state + n * gamma) % 2**64 for n in range(1, 4)], dtype=np.uint64)
    splitmix64(states)
    assert states.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_no_bits_make_a_number_of_0_or_1(monkeypatch, bits):
    monkeypatch.setattr("gpt2core.sampling.splitmix64", lambda states: states.fill(bits))
    numbers = uniform_numbers(1, 1, np.arange(3))
    assert (0 < numbers).all() and (numbers < 1).all()
    assert np.isfinite(gumbel_noise(numbers)).all()


@given(any_logits, st.integers(0, MAX_SEED), st.integers(0, 2000), st.floats(0.05, 5))
def test_the_token_has_the_largest_sum_of_log_probability_and_noise(
    logits, seed, position, temperature
):
    ids, probabilities = distribution(logits, SamplingParams(temperature, seed=seed))
    numbers = uniform_numbers(seed, position, ids)
    likely = probabilities > 0
    sums = np.full(len(ids), -np.inf)
    sums[likely] = np.log(probabilities[likely].astype(float)) - np.log(-np.log1p(-numbers[likely]))
    assert sample(logits, SamplingParams(temperature, seed=seed), position) == ids[sums.argmax()]


def test_a_number_depends_on_no_other_token():
    ids = np.arange(50_257)
    numbers = uniform_numbers(9, 3, ids)
    some = np.array([50_256, 7, 0, 8])
    np.testing.assert_array_equal(uniform_numbers(9, 3, some), numbers[some])


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(1.0),
        SamplingParams(1.7, top_p=0.95),
        SamplingParams(0.7, top_k=40),
        SamplingParams(1.2, top_k=200, top_p=0.9),
    ],
    ids=controls_id,
)
def test_logits_that_differ_in_the_sixth_digit_give_the_same_tokens(params):
    # A number on the running sum of the probabilities flips 6 and 8 of 200 tokens here.
    logits = (3 * np.random.RandomState(4).standard_normal(50_257)).astype(np.float32)
    others = logits + np.where(np.arange(50_257) < 25_000, 1e-5, -1e-5).astype(np.float32)
    found, moved = distribution(logits, params), distribution(others, params)
    for seed in range(200):
        assert draw(*found, seed, 8) == draw(*moved, seed, 8)


def test_a_token_is_a_python_int():
    for params in (SamplingParams(seed=1), *CONTROLS):
        assert type(sample(LOGITS, params)) is int


def test_the_logits_are_not_changed():
    before = LOGITS.copy()
    for params in CONTROLS:
        sample(LOGITS, params)
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
    params = SamplingParams(**{"temperature": 1.0, "seed": 1, **values})
    ids, probabilities = distribution(LOGITS, params)
    seed = fresh_seed() if params.seed is None else params.seed
    assert draw(ids, probabilities, seed, 0) in range(len(LOGITS))


def test_parameters_cannot_be_changed():
    with pytest.raises(AttributeError):
        SamplingParams().temperature = 1.0
