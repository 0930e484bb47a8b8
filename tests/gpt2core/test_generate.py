"""stream() and generate(): the tokens, what is reported of each, and why a stream ends."""

import numpy as np
import pytest

from gpt2core.engine.engine import Engine
from gpt2core.engine.sequence import ENDOFTEXT_ID, Candidate
from gpt2core.errors import GPT2Error, InputError
from gpt2core.generate import generate, stream
from gpt2core.model import gpt2
from gpt2core.sampling import SamplingParams
from gpt2core.tokenizer.table import ENDOFTEXT
from tests.helpers.small_models import SMALL_MODELS, TOLERANCE

ONE_HEAD = SMALL_MODELS["one_head"]


class CountingEngine(Engine):
    """An engine that records its calls: the number of prompt ids, or the single id."""

    def __init__(self, small):
        super().__init__(small.params(), small.hparams, n_slots=2)
        self.calls = []

    def prefill(self, slot, ids):
        self.calls.append(("prefill", len(ids)))
        return super().prefill(slot, ids)

    def step(self, slots, ids):
        self.calls += [("step", id) for id in ids]
        return super().step(slots, ids)


def naive_greedy(small, ids, n_tokens):
    """Greedy decoding without a cache: the whole text through the model for every token."""
    ids, params = list(ids), small.params()
    for _ in range(n_tokens):
        ids.append(int(gpt2(ids, **params, n_head=small.hparams.n_head)[-1].argmax()))
    return ids[len(ids) - n_tokens :]


def expected_logprobs(small, ids):
    """Log-probabilities of what follows ``ids``, by the definition, in float64."""
    logits = gpt2(ids, **small.params(), n_head=small.hparams.n_head)[-1].astype(np.float64)
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


HOT = SamplingParams(temperature=1.5, top_k=12, top_p=0.95, seed=5)


# The generated ids


@pytest.mark.parametrize("n_prompt", [1, 2, 17])
def test_greedy_is_the_naive_loop(small, n_prompt):
    prompt = small.ids()[:n_prompt]
    n_tokens = small.hparams.n_ctx - n_prompt
    tokens = list(stream(CountingEngine(small), prompt, n_tokens))
    assert [token.id for token in tokens] == naive_greedy(small, prompt, n_tokens)


def test_the_same_seed_gives_the_same_text(small):
    runs = [
        [token.id for token in stream(CountingEngine(small), small.ids()[:3], 15, HOT)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != naive_greedy(small, small.ids()[:3], 15)


def test_two_interleaved_streams_of_one_engine_give_the_same_tokens_as_alone(small):
    engine, ids = CountingEngine(small), small.ids()
    alone = [list(stream(engine, ids[:3], 10, HOT)), list(stream(engine, ids[5:9], 10))]
    together = [stream(engine, ids[:3], 10, HOT), stream(engine, ids[5:9], 10)]
    turns = [tuple(next(tokens) for tokens in together) for _ in range(10)]
    assert [list(tokens) for tokens in zip(*turns, strict=True)] == alone


# What is reported of each token


@pytest.mark.parametrize("sampling", [None, HOT], ids=["greedy", "hot"])
def test_logprobs_and_candidates_are_the_models_own(small, sampling):
    """Not those after temperature, top-k and top-p."""
    written = small.ids()[:4]
    for token in stream(CountingEngine(small), list(written), 12, sampling):
        logprobs = expected_logprobs(small, written)
        assert token.logprob == pytest.approx(logprobs[token.id], abs=TOLERANCE)
        ids = [candidate.id for candidate in token.candidates]
        assert len(set(ids)) == len(ids) == 10
        for candidate in token.candidates:
            assert candidate.logprob == pytest.approx(logprobs[candidate.id], abs=TOLERANCE)
        # Likeliest first, and no likelier token is missing.
        reported = [candidate.logprob for candidate in token.candidates]
        assert reported == sorted(reported, reverse=True)
        assert min(reported) >= np.delete(logprobs, ids).max() - TOLERANCE
        written.append(token.id)


def test_a_greedy_token_is_its_own_first_candidate(small):
    for token in stream(CountingEngine(small), small.ids()[:4], 12):
        assert token.candidates[0] == Candidate(token.id, token.logprob, sampling_probability=1.0)
        assert {candidate.sampling_probability for candidate in token.candidates[1:]} == {0.0}


def test_each_candidate_has_the_probability_with_which_it_was_drawn(small):
    """After temperature, top-k and top-p; 0 for tokens that are excluded."""
    controls = SamplingParams(temperature=1.5, top_k=6, top_p=0.8, seed=5)
    written, cut = small.ids()[:4], 0
    for token in stream(CountingEngine(small), list(written), 12, controls):
        hot = np.exp(expected_logprobs(small, written) / controls.temperature)
        ranks = (-hot).argsort()[: controls.top_k]
        shares = hot[ranks] / hot[ranks].sum()
        n_kept = 1 + int((shares.cumsum() < controls.top_p).sum())
        expected = np.zeros_like(hot)
        expected[ranks[:n_kept]] = shares[:n_kept] / shares[:n_kept].sum()
        for candidate in token.candidates:
            assert candidate.sampling_probability == pytest.approx(
                expected[candidate.id], abs=TOLERANCE
            )
            cut += candidate.sampling_probability == 0
        assert expected[token.id] > 0
        written.append(token.id)
    assert cut >= 4 * 12  # of ten candidates, top-k alone cuts four


def test_a_token_holds_plain_python_numbers_that_json_accepts(small):
    for token in stream(CountingEngine(small), small.ids()[:4], 3, HOT):
        assert type(token.id) is int and type(token.logprob) is float
        assert {type(candidate.id) for candidate in token.candidates} == {int}
        numbers = [
            (candidate.logprob, candidate.sampling_probability) for candidate in token.candidates
        ]
        assert {type(number) for pair in numbers for number in pair} == {float}


# Why a stream ends


def assert_ends_once(tokens, reason):
    assert [token.finish_reason for token in tokens] == [None] * (len(tokens) - 1) + [reason]


@pytest.mark.parametrize("n_tokens", [1, 2, 9])
def test_a_stream_ends_after_the_requested_number_of_tokens(small, n_tokens):
    tokens = list(stream(CountingEngine(small), small.ids()[:3], n_tokens))
    assert len(tokens) == n_tokens
    assert_ends_once(tokens, "length")


@pytest.mark.parametrize("n_prompt", [1, 2, 17, -1], ids=["1", "2", "17", "n_ctx-1"])
@pytest.mark.parametrize("surplus", [1, 1000])
def test_a_stream_ends_when_prompt_and_continuation_fill_the_context(small, n_prompt, surplus):
    prompt = small.ids()[:n_prompt]
    room = small.hparams.n_ctx - len(prompt)
    tokens = list(stream(CountingEngine(small), prompt, room + surplus))
    assert len(tokens) == room
    assert_ends_once(tokens, "context")


def test_a_request_that_exactly_fills_the_context_ends_with_length(small):
    prompt = small.ids()[:4]
    tokens = list(stream(CountingEngine(small), prompt, small.hparams.n_ctx - 4))
    assert len(tokens) == small.hparams.n_ctx - 4
    assert_ends_once(tokens, "length")


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_stream_ends_with_endoftext(small, at):
    prompt = small.ids()[:4]
    written = naive_greedy(small, prompt, 8)
    expected = written[: written.index(written[at]) + 1]
    tokens = list(stream(CountingEngine(small), prompt, 8, end_ids={50256, written[at]}))
    assert [token.id for token in tokens] == expected
    assert_ends_once(tokens, "endoftext")


def test_endoftext_as_the_last_requested_token_ends_with_endoftext(small):
    prompt = small.ids()[:4]
    (first,) = naive_greedy(small, prompt, 1)
    assert_ends_once(list(stream(CountingEngine(small), prompt, 1, end_ids={first})), "endoftext")


def test_without_an_endoftext_only_length_and_context_end_a_stream(small):
    tokens = list(stream(CountingEngine(small), small.ids()[:4], 8, end_ids=()))
    assert_ends_once(tokens, "length")


def test_the_default_endoftext_id_is_the_tokenizers(encoder):
    assert encoder.encoder[ENDOFTEXT] == ENDOFTEXT_ID


# What is computed


def test_the_prompt_is_read_once_and_each_token_fed_back_once(small):
    engine = CountingEngine(small)
    ids = [token.id for token in stream(engine, small.ids()[:6], 9)]
    # The last token is never fed back: nothing is to follow it.
    assert engine.calls == [("prefill", 6), *(("step", id) for id in ids[:-1])]


def test_a_token_is_computed_only_when_it_is_requested(small):
    engine = CountingEngine(small)
    tokens = stream(engine, small.ids()[:6], 9)
    assert engine.calls == []
    for n_requested in range(1, 5):
        next(tokens)
        assert len(engine.calls) == n_requested


def test_closing_the_iterator_ends_the_computing(small):
    engine = CountingEngine(small)
    tokens = stream(engine, small.ids()[:6], 9)
    next(tokens), next(tokens)
    tokens.close()
    assert list(tokens) == []
    assert len(engine.calls) == 2


@pytest.mark.parametrize("n_taken", [0, 1, 9])
def test_a_stream_gives_its_slot_back(small, n_taken):
    engine, kept = CountingEngine(small), []
    for _ in range(3):  # on two slots: the third call raises if none was freed
        tokens = stream(engine, small.ids()[:6], 9)
        for _ in range(n_taken):
            next(tokens)
        if n_taken < 9:
            tokens.close()
        kept.append(tokens)  # even where the stream is not collected


# The caller's list


def test_the_callers_ids_are_not_changed(small):
    ids = small.ids()[:5]
    list(stream(CountingEngine(small), ids, 6))
    generate(ids, small.params(), small.hparams.n_head, 6)
    assert ids == small.ids()[:5]


def test_the_caller_may_append_to_its_list_while_the_stream_runs(small):
    """A common loop: the new ids are appended to the list that held the prompt."""
    ids, room = small.ids()[:5], small.hparams.n_ctx - 5
    tokens = []
    for token in stream(CountingEngine(small), ids, room):
        tokens.append(token)
        ids.append(token.id)
    assert ids[5:] == naive_greedy(small, small.ids()[:5], room)
    assert_ends_once(tokens, "length")


def test_changing_the_list_after_the_call_has_no_effect(small):
    ids = small.ids()[:5]
    tokens = stream(CountingEngine(small), ids, 4)
    ids.clear()
    assert [token.id for token in tokens] == naive_greedy(small, small.ids()[:5], 4)


# Invalid input


@pytest.mark.parametrize(
    ("ids", "n_tokens", "field"),
    [
        ([], 5, "prompt"),
        ([1] * 19, 5, "prompt"),
        ([1, 31], 5, "prompt"),
        ([-1, 2], 5, "prompt"),
        ([1, 2], 0, "n_tokens"),
        ([1, 2], -3, "n_tokens"),
        ([1, 2], 2.5, "n_tokens"),
        ([1, 2], float("nan"), "n_tokens"),
        ([1, 2], "5", "n_tokens"),
        ([1, 2], None, "n_tokens"),
        ([1, 2], True, "n_tokens"),
    ],
)
def test_invalid_input_is_an_error_at_the_call_before_any_computing(ids, n_tokens, field):
    engine = CountingEngine(ONE_HEAD)
    with pytest.raises(InputError) as caught:
        stream(engine, ids, n_tokens)  # not even next() is needed
    assert caught.value.field == field
    assert engine.calls == []


# generate(), with picoGPT's signature


@pytest.mark.parametrize("n_prompt", [1, 2, 17])
@pytest.mark.parametrize("kind", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_generate_is_the_naive_loop_over_gpt2(small, n_prompt, kind):
    prompt = small.ids()[:n_prompt]
    n_tokens = small.hparams.n_ctx - n_prompt
    new = generate(kind(prompt), small.params(), small.hparams.n_head, n_tokens)
    assert type(new) is list and {type(id) for id in new} == {int}
    assert new == naive_greedy(small, prompt, n_tokens)


def test_generate_equals_huggingfaces_greedy_ids(small_name, small, logit_goldens):
    expected = logit_goldens[f"{small_name}/greedy"].tolist()
    new = generate(small.ids()[:2], small.params(), small.hparams.n_head, len(expected))
    assert new == expected


def test_generate_stops_where_the_context_is_full():
    new = generate([1, 2], ONE_HEAD.params(), ONE_HEAD.hparams.n_head, 1000)
    assert len(new) == ONE_HEAD.hparams.n_ctx - 2


@pytest.mark.parametrize(
    ("inputs", "n_head", "n_tokens"), [([], 1, 3), ([1] * 19, 1, 3), ([1], 2, 3), ([1], 1, -1)]
)
def test_generate_raises_an_error_for_invalid_input(inputs, n_head, n_tokens):
    with pytest.raises(GPT2Error):
        generate(inputs, ONE_HEAD.params(), n_head, n_tokens)


def test_the_bundled_model_writes_words(demo):
    """At least eight words, most of them letters, and the same ones again."""
    prompt = demo.encoder.encode("Alan Turing theorized that computers would one day become")
    new = generate(prompt, demo.params, demo.hparams.n_head, 24)
    assert new == generate(prompt, demo.params, demo.hparams.n_head, 24)
    words = demo.encoder.decode(new).split()
    assert len(words) >= 8 and sum(word.strip(".,;:!?\"'").isalpha() for word in words) >= 6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a9_a_score_that_is_not_finite_is_an_error_and_never_a_token(small):
    params = small.params()
    params["ln_f"]["b"][:] = 3e38  # finite, and too large to multiply
    params["wte"][:] = 2
    tokens = stream(Engine(params, small.hparams), small.ids()[:3], 4)
    with pytest.raises(GPT2Error, match="not a finite number"):
        next(tokens)
