"""A recorded pass is what transformers and TransformerLens see, and its numbers add up."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpt2core import model
from gpt2core.errors import InputError
from gpt2core.inside.recorder import record
from gpt2core.inside.recording import (
    EPSILON,
    MAX_TOKENS,
    early_logits,
    named_arrays,
    record_pass,
    replay_block,
    replay_unembed,
)
from tests.gpt2core.inside.conftest import N_TOKENS
from tests.helpers.small_models import SMALL_MODELS

TOLERANCE = 1e-4  # of the residual stream, whose numbers are a few dozen
OF_A_WEIGHT = 1e-5  # attention weights are at most 1


def largest_difference(a, b) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def every_value(small):
    """The trace of a whole pass from which nothing was let go."""
    ids, params = small.ids()[:N_TOKENS], small.params()
    return record(model.gpt2, ids, **params, n_head=small.hparams.n_head)[1]


# Against transformers and TransformerLens


def test_every_small_model_has_its_goldens(inside_goldens):
    assert {key.split("/")[0] for key in inside_goldens} == set(SMALL_MODELS)


def test_attention_patterns_equal_those_of_transformers(recording, golden):
    assert largest_difference(np.stack(recording.patterns), golden["attentions"]) <= OF_A_WEIGHT


def test_attention_patterns_equal_those_of_transformer_lens(recording, golden):
    assert largest_difference(np.stack(recording.patterns), golden["pattern"]) <= OF_A_WEIGHT


def test_states_equal_the_hidden_states_of_transformers(recording, golden):
    """Their last state is after the final norm; the one before it they do not give."""
    states = np.stack(recording.residual[:-1])
    assert largest_difference(states, golden["hidden_states"][:-1]) <= TOLERANCE
    normed = model.layer_norm(recording.residual[-1], **recording.params["ln_f"])
    assert largest_difference(normed, golden["hidden_states"][-1]) <= TOLERANCE


def test_states_equal_those_of_transformer_lens(recording, golden):
    assert largest_difference(np.stack(recording.residual_mid), golden["resid_mid"]) <= TOLERANCE
    assert largest_difference(np.stack(recording.residual[1:]), golden["resid_post"]) <= TOLERANCE


def test_heads_equal_those_of_transformer_lens(recording, golden):
    heads = np.stack(recording.heads).swapaxes(1, 2)  # [n_layer, n_seq, n_head, d_head]
    assert largest_difference(heads, golden["z"]) <= TOLERANCE


def test_neurons_of_a_replayed_block_equal_those_of_transformer_lens(recording, golden):
    activations = [
        replay_block(recording, layer).array("ffn.a") for layer in range(recording.n_layer)
    ]
    assert largest_difference(np.stack(activations), golden["mlp_post"]) <= TOLERANCE


# What it keeps


def test_a_recording_has_the_shapes_that_it_says(recording, small):
    h, n, d_head = small.hparams, N_TOKENS, small.hparams.n_embd // small.hparams.n_head
    assert [x.shape for x in recording.residual] == [(n, h.n_embd)] * (h.n_layer + 1)
    assert [x.shape for x in recording.residual_mid] == [(n, h.n_embd)] * h.n_layer
    assert [x.shape for x in recording.patterns] == [(h.n_head, n, n)] * h.n_layer
    assert [x.shape for x in recording.heads] == [(h.n_head, n, d_head)] * h.n_layer
    assert recording.divisors.shape == (n,) and recording.last_logits.shape == (h.n_vocab,)
    assert (recording.n_tokens, recording.n_layer) == (n, h.n_layer)
    assert recording.n_vocab == h.n_vocab
    assert {value.array.dtype for value in recording.trace} == {np.dtype(np.float32), np.dtype(int)}


def test_it_counts_its_bytes_and_holds_no_more(recording, small):
    h, n = small.hparams, N_TOKENS
    floats = (
        (2 * h.n_layer + 1) * n * h.n_embd  # states, residual_mid
        + h.n_layer * h.n_head * n * n  # patterns
        + h.n_layer * n * h.n_embd  # heads
        + 2 * n  # the final norm's variance and divisor
        + h.n_vocab
    )
    assert recording.nbytes == 4 * floats + n * np.dtype(int).itemsize
    # None is a view of a larger array that would stay alive with it.
    arrays = [value.array for value in recording.trace] + [recording.last_logits]
    assert all(a.base is None or a.base.nbytes == a.nbytes for a in arrays)


def test_the_logits_are_those_of_the_pass(recording, small):
    logits = model.gpt2(recording.ids, **small.params(), n_head=small.hparams.n_head)
    np.testing.assert_array_equal(recording.logits(N_TOKENS - 1), logits[-1])
    for position in range(N_TOKENS):
        assert largest_difference(recording.logits(position), logits[position]) <= 1e-4


def test_neither_threads_nor_addresses_change_a_bit_of_the_logits(demo):
    recording = record_pass(range(300, 309), demo.params, demo.hparams.n_head)
    wte = demo.params["wte"]
    elsewhere = np.empty(wte.size + 1, wte.dtype)[1:].reshape(wte.shape)
    elsewhere[:] = wte
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads, user_api="blas"):
            for params in (demo.params, {**demo.params, "wte": elsewhere}):
                (logits,) = early_logits(recording.residual[-1][-1:], params)
                np.testing.assert_array_equal(logits, recording.last_logits)


def test_states_and_ids_are_those_of_a_pass_with_the_whole_vocabulary(recording, small):
    ids = list(recording.ids)
    _, trace = record(model.gpt2, ids, **small.params(), n_head=small.hparams.n_head)
    for value in recording.trace:
        np.testing.assert_array_equal(value.array, trace.array(value.path))


def test_the_divisors_are_those_of_the_final_norm(recording):
    x = recording.residual[-1].astype(np.float64)
    np.testing.assert_allclose(recording.divisors, np.sqrt(x.var(axis=-1) + 1e-5), rtol=1e-5)


def test_the_ids_alone_decide(recording, small):
    """A list, a tuple, an array, a prompt and the tokens kept after it: the same recording."""
    ids = small.ids()[:N_TOKENS]
    prompt, kept = ids[:6], ids[6:]
    for same in (tuple(ids), np.array(ids), np.array(ids, dtype=np.int32), [*prompt, *kept]):
        again = record_pass(same, small.params(), small.hparams.n_head)
        assert again.ids == recording.ids
        assert [value.path for value in again.trace] == [value.path for value in recording.trace]
        for value, other in zip(again.trace, recording.trace, strict=True):
            np.testing.assert_array_equal(value.array, other.array)
        np.testing.assert_array_equal(again.last_logits, recording.last_logits)


# Replays


def test_a_replayed_block_equals_the_first_pass_to_the_last_bit(recording, small):
    trace = every_value(small)
    for layer in range(recording.n_layer):
        block = replay_block(recording, layer)
        first = [value for value in trace if value.call.layer == layer]
        assert [value.path for value in block.trace] == [value.path for value in first]
        assert [value.line for value in block.trace] == [value.line for value in first]
        for replayed, value in zip(block.trace, first, strict=True):
            np.testing.assert_array_equal(replayed.array, value.array)


def test_the_replayed_end_equals_the_first_pass_to_the_last_bit(recording, small):
    first = [v for v in every_value(small) if v.path.startswith("gpt2.unembed.")]
    replayed = replay_unembed(recording)
    assert [value.path for value in replayed] == [value.path for value in first]
    for again, value in zip(replayed, first, strict=True):
        np.testing.assert_array_equal(again.array, value.array)


def test_a_block_knows_its_arrays_by_their_path_in_it(recording):
    block = replay_block(recording, 0)
    assert block.array("mha.q") is block.trace.array("blocks[0].mha.q")
    with pytest.raises(KeyError):
        block.array("mha.queries")


def test_arrays_to_take_away_are_named_as_in_the_source(recording):
    layer = recording.n_layer - 1
    block = replay_block(recording, layer)
    arrays = named_arrays(recording, block)
    assert arrays["gpt2.x"] is recording.residual[0]
    assert arrays[f"blocks[{layer}].mha.q"] is block.array("mha.q")
    assert arrays["last_logits"] is recording.last_logits
    assert {value.path for value in (*recording.trace, *block.trace)} <= set(arrays)


# Identities


def test_attention_rows_add_up_to_1_and_see_nothing_later(recording):
    for pattern in recording.patterns:
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, atol=1e-6)
        later = np.triu_indices(N_TOKENS, k=1)
        assert (pattern[:, later[0], later[1]] == 0).all()
        assert (pattern[:, 0, 0] == 1).all()


def test_the_last_state_is_the_sum_of_all_that_was_added(recording, small):
    trace = every_value(small)
    params, ids = small.params(), list(recording.ids)
    total = params["wte"][ids] + params["wpe"][:N_TOKENS]
    for value in trace.find("mha", "return") + trace.find("ffn", "return"):
        total = total + value.array
    assert largest_difference(total, recording.residual[-1]) <= 1e-4


def test_layer_norm_gives_mean_0_and_variance_1_before_gain_and_bias(small):
    trace = every_value(small)
    centred, variances = trace.find("layer_norm", "centred"), trace.find("layer_norm", "variance")
    assert len(centred) == len(variances) == 2 * small.hparams.n_layer + 1
    for c, variance in zip(centred, variances, strict=True):
        normed = c.array.astype(np.float64) / np.sqrt(variance.array + EPSILON)
        np.testing.assert_allclose(normed.mean(axis=-1), 0, atol=1e-5)
        # Of variance v the epsilon leaves v / (v + eps).
        expected = (variance.array / (variance.array + EPSILON))[:, 0]
        np.testing.assert_allclose(normed.var(axis=-1), expected, rtol=1e-4)


def test_gelu_of_0_is_0():
    assert model.gelu(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


# What cannot be recorded


@pytest.mark.parametrize(
    ("ids", "message", "numbers"),
    [
        ([], "type at least one character", {}),
        ([1] * 20, "20 tokens long; this model's context holds 19", {"maximum": 19}),
        ([1, 31], "Token id 31 is not a token .* its vocabulary ends at 30", {"id": 31}),
        ([1, -1], "Token id -1 is not a token", {"id": -1}),
    ],
)
def test_a_text_that_cannot_be_recorded_is_refused_with_its_numbers(ids, message, numbers):
    small = SMALL_MODELS["one_head"]  # n_vocab 31, n_ctx 19
    with pytest.raises(InputError, match=message) as caught:
        record_pass(ids, small.params(), 1)
    assert caught.value.field == "prompt" and numbers.items() <= caught.value.numbers.items()


def test_a_full_context_can_be_recorded():
    small = SMALL_MODELS["one_head"]
    assert record_pass(small.ids(), small.params(), 1).n_tokens == small.hparams.n_ctx


def test_a_text_beyond_the_limit_of_the_view_is_refused_with_both_numbers():
    small = SMALL_MODELS["one_head"]
    params = small.params()
    params["wpe"] = np.zeros((MAX_TOKENS + 10, small.hparams.n_embd), np.float32)
    with pytest.raises(InputError, match="257 tokens long; the inside view takes 256") as caught:
        record_pass([1] * 257, params, 1)
    assert caught.value.numbers == {"n_prompt_tokens": 257, "maximum": 256}
    assert record_pass([1] * 256, params, 1).n_tokens == 256
