"""The readable model is GPT-2: checked against Hugging Face transformers, part by part and whole.

``golden/logits.npz`` holds what ``GPT2LMHeadModel`` says on the seeded weights of
``small_models.py``; ``tools/make_logit_goldens.py`` wrote it.
"""

import copy
import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2core.model
from gpt2core.errors import InputError
from gpt2core.model import (
    attention,
    ffn,
    gelu,
    gpt2,
    layer_norm,
    linear,
    mha,
    softmax,
    transformer_block,
    unembed,
)
from tests.helpers.small_models import SMALL_MODELS, TOLERANCE


def logits_of(small, ids):
    return gpt2(ids, **small.params(), n_head=small.hparams.n_head)


def largest_difference(a, b):
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


# Against Hugging Face transformers


def test_every_small_model_has_its_goldens(logit_goldens):
    names = {key.split("/")[0] for key in logit_goldens}
    assert names == {*SMALL_MODELS, "gelu"}
    for name, small in SMALL_MODELS.items():
        assert logit_goldens[f"{name}/ids"].tolist() == small.ids()
        assert logit_goldens[f"{name}/logits"].dtype == np.float32


def test_logits_equal_huggingfaces(small_name, small, logit_goldens):
    logits = logits_of(small, small.ids())
    assert largest_difference(logits, logit_goldens[f"{small_name}/logits"]) <= TOLERANCE


@pytest.mark.parametrize("length", [1, 2, 17])
def test_logits_of_a_shorter_text_are_the_first_rows(small_name, small, logit_goldens, length):
    logits = logits_of(small, small.ids()[:length])
    golden = logit_goldens[f"{small_name}/logits"][:length]
    assert largest_difference(logits, golden) <= TOLERANCE


def test_greedy_ids_equal_huggingfaces(small_name, small, logit_goldens):
    expected = logit_goldens[f"{small_name}/greedy"].tolist()
    params, n_head = small.params(), small.hparams.n_head
    ids = small.ids()[:2]
    for _ in expected:
        ids.append(int(gpt2(ids, **params, n_head=n_head)[-1].argmax()))
    assert ids[2:] == expected
    assert len(set(expected)) > 3  # a model that repeats itself would prove little


# Mistakes that others made, each of which the goldens must tell from the truth.


def erf_gelu(x, xp=np):
    erf = np.vectorize(math.erf, otypes=[np.float32])
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def sigmoid_gelu(x, xp=np):
    return x / (1 + np.exp(-1.702 * x))


def layer_norm_with(eps=1e-5, ddof=0):
    def wrong(x, g, b, xp=np):
        variance = x.var(axis=-1, keepdims=True, ddof=ddof)
        return g * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + eps) + b

    return wrong


def attention_with(scale=1.0, mask_scale=1.0, mask_itself=False, swap=False):
    def wrong(q, k, v, mask, xp=np):
        q, k = (k, q) if swap else (q, k)
        itself = np.eye(len(mask)) * -1e10 if mask_itself else 0
        return attention(q * scale, k, v, mask * mask_scale + itself)

    return wrong


def heads_read_across(x, c_attn, c_proj, n_head, xp=np):
    n_seq, n_embd = x.shape
    x = linear(x, **c_attn).reshape(n_seq, n_embd // n_head, n_head, 3)
    q, k, v = x.transpose(3, 2, 0, 1)
    mask = (1 - np.tri(n_seq)) * -1e10
    heads = attention(q, k, v, mask).transpose(1, 0, 2).reshape(n_seq, n_embd)
    return linear(heads, **c_proj)


def block_without_residual(x, ln_1, attn, ln_2, mlp, n_head, xp=np):
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head)
    return ffn(layer_norm(x, **ln_2), **mlp)


def block_normed_after(x, ln_1, attn, ln_2, mlp, n_head, xp=np):
    x = layer_norm(x + mha(x, **attn, n_head=n_head), **ln_1)
    return layer_norm(x + ffn(x, **mlp), **ln_2)


def parallel_block(x, ln_1, attn, ln_2, mlp, n_head, xp=np):
    attended = mha(layer_norm(x, **ln_1), **attn, n_head=n_head)
    return x + attended + ffn(layer_norm(x, **ln_2), **mlp)


MISTAKES = {
    "erf gelu": ("gelu", erf_gelu),
    "sigmoid gelu": ("gelu", sigmoid_gelu),
    "relu": ("gelu", lambda x, xp=np: np.maximum(x, 0)),
    "eps 1e-6": ("layer_norm", layer_norm_with(eps=1e-6)),
    "eps 1e-12": ("layer_norm", layer_norm_with(eps=1e-12)),
    "variance over n - 1": ("layer_norm", layer_norm_with(ddof=1)),
    "no mask": ("attention", attention_with(mask_scale=0.0)),
    "mask upside down": ("attention", attention_with(mask_scale=-1.0)),
    "a token is hidden from itself": ("attention", attention_with(mask_itself=True)),
    "scores a little too large": ("attention", attention_with(scale=1.01)),
    "queries and keys swapped": ("attention", attention_with(swap=True)),
    "heads read across": ("mha", heads_read_across),
    "no residual": ("transformer_block", block_without_residual),
    "norm after": ("transformer_block", block_normed_after),
    "attention and ffn in parallel": ("transformer_block", parallel_block),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_goldens_tell_this_mistake_apart(mistake, logit_goldens, monkeypatch):
    name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(gpt2core.model, name, wrong)
    differences = [
        largest_difference(logits_of(small, small.ids()), logit_goldens[f"{name}/logits"])
        for name, small in SMALL_MODELS.items()
    ]
    assert max(differences) > 4 * TOLERANCE


# Each function by its definition


def test_gelu_is_torchs_tanh_gelu(logit_goldens):
    x, y = logit_goldens["gelu/x"], logit_goldens["gelu/y"]
    assert largest_difference(gelu(x), y) <= 1e-6


def test_gelu_is_zero_far_below_and_the_number_itself_far_above():
    x = np.array([-1e4, -100, 0, 100, 1e4], dtype=np.float32)
    assert gelu(x).tolist() == [0, 0, 0, 100, 1e4]


rows_of_floats = (
    st.integers(1, 6)
    .flatmap(
        lambda width: st.lists(
            st.lists(st.floats(-1e4, 1e4, width=32), min_size=width, max_size=width),
            min_size=1,
            max_size=4,
        )
    )
    .map(lambda rows: np.array(rows, dtype=np.float32))
)


@given(rows_of_floats)
def test_softmax_is_its_definition_and_never_overflows(x):
    p = softmax(x)
    assert p.dtype == np.float32 and (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
    for row, p_row in zip(x.tolist(), p, strict=True):
        powers = [math.exp(value - max(row)) for value in row]
        expected = [power / math.fsum(powers) for power in powers]
        np.testing.assert_allclose(p_row, expected, rtol=1e-4, atol=1e-30)


def test_softmax_is_over_the_last_axis():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(softmax(x).sum(axis=-1), np.ones((2, 3)), rtol=1e-6)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 300.0])
def test_layer_norm_is_its_definition(spread):
    random = np.random.RandomState(7)
    x = (5 + spread * random.standard_normal((4, 33))).astype(np.float32)
    g, b = random.standard_normal((2, 33)).astype(np.float32)
    wide = x.astype(np.float64)
    mean = wide.mean(axis=1)[:, None]
    deviation = np.sqrt(((wide - mean) ** 2).mean(axis=1) + 1e-5)[:, None]
    np.testing.assert_allclose(layer_norm(x, g, b), g * (wide - mean) / deviation + b, atol=2e-3)
    plain = layer_norm(x, np.float32(1), np.float32(0))
    np.testing.assert_allclose(plain.mean(axis=-1), 0, atol=1e-4)


def test_layer_norm_of_equal_numbers_is_the_shift():
    b = np.array([1, 2, 3], dtype=np.float32)
    assert layer_norm(np.full((2, 3), 7, dtype=np.float32), b * 9, b).tolist() == [[1, 2, 3]] * 2


def test_linear_multiplies_rows_with_n_in_by_n_out_and_adds():
    x = np.array([[1, 2], [3, 4]], dtype=np.float32)
    w = np.array([[1, 0, 10], [0, 1, 100]], dtype=np.float32)
    b = np.array([0.5, 0.25, 0], dtype=np.float32)
    assert linear(x, w, b).tolist() == [[1.5, 2.25, 210], [3.5, 4.25, 430]]


def test_attention_takes_the_value_whose_key_matches():
    q = np.array([[[100, 0], [0, 100]]], dtype=np.float32)  # [1 head, 2 tokens, 2 channels]
    k = np.array([[[0, 1], [1, 0]]], dtype=np.float32)
    v = np.array([[[1, 2], [3, 4]]], dtype=np.float32)
    no_mask = np.zeros((2, 2), dtype=np.float32)
    np.testing.assert_allclose(attention(q, k, v, no_mask), [[[3, 4], [1, 2]]], atol=1e-6)


def test_attention_divides_scores_by_the_root_of_the_channels():
    q = k = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]]], dtype=np.float32)
    v = np.array([[[1], [0]]], dtype=np.float32)
    first = attention(q, k, v, np.zeros((2, 2), dtype=np.float32))[0, 0, 0]
    assert first == pytest.approx(1 / (1 + math.exp(-4 / 2)), abs=1e-6)


def test_no_token_sees_later_ones(small):
    ids = small.ids()
    changed = [*ids[:10], *((i + 1) % small.hparams.n_vocab for i in ids[10:])]
    before, after = logits_of(small, ids), logits_of(small, changed)
    # Not to the bit: a product of other rows may be summed in another order.
    assert largest_difference(before[:10], after[:10]) <= TOLERANCE / 10
    assert (np.abs(before[10:] - after[10:]).max(axis=-1) > 100 * TOLERANCE).all()


def test_the_order_of_tokens_matters(small):
    ids = small.ids()
    swapped = [ids[1], ids[0], *ids[2:8]]
    assert largest_difference(logits_of(small, ids[:8])[-1], logits_of(small, swapped)[-1]) > 1e-3


def test_unembed_multiplies_the_normalised_row_with_every_embedding(small):
    params, h = small.params(), small.hparams
    x = np.random.RandomState(1).standard_normal((3, h.n_embd)).astype(np.float32)
    normed = layer_norm(x.astype(np.float64), **params["ln_f"])  # [3, n_embd]
    expected = [[float(np.sum(row * embedding)) for embedding in params["wte"]] for row in normed]
    np.testing.assert_allclose(unembed(x, params["wte"], params["ln_f"]), expected, atol=1e-3)


def test_the_logits_are_unembed_of_the_last_blocks_output(small):
    """So the logit lens after the last block is the model's own prediction."""
    params, ids, n_head = small.params(), small.ids(), small.hparams.n_head
    x = params["wte"][ids] + params["wpe"][: len(ids)]
    for block in params["blocks"]:
        x = transformer_block(x, **block, n_head=n_head)
    logits = unembed(x, params["wte"], params["ln_f"])
    np.testing.assert_array_equal(logits, logits_of(small, ids))


# float32 stays float32, and arguments stay as they are


def calls_of_every_function(small):
    """Name -> arguments for each function of the module, on the weights of ``small``."""
    params, h = small.params(), small.hparams
    block = params["blocks"][0]
    random = np.random.RandomState(0)
    x = random.standard_normal((7, h.n_embd)).astype(np.float32)
    q, k, v = random.standard_normal((3, h.n_head, 7, 4)).astype(np.float32)
    mask = ((1 - np.tri(7)) * -1e10).astype(np.float32)
    return {
        "gelu": {"x": x},
        "softmax": {"x": x},
        "layer_norm": {"x": x, **block["ln_1"]},
        "linear": {"x": x, **block["mlp"]["c_fc"]},
        "ffn": {"x": x, **block["mlp"]},
        "attention": {"q": q, "k": k, "v": v, "mask": mask},
        "mha": {"x": x, **block["attn"], "n_head": h.n_head},
        "transformer_block": {"x": x, **block, "n_head": h.n_head},
        "unembed": {"x": x, "wte": params["wte"], "ln_f": params["ln_f"]},
        "gpt2": {"inputs": small.ids(), **params, "n_head": h.n_head},
    }


FUNCTIONS = [
    name
    for name, value in vars(gpt2core.model).items()
    if inspect.isfunction(value) and value.__module__ == "gpt2core.model"
]


def test_every_function_of_the_model_is_checked():
    assert sorted(FUNCTIONS) == sorted(calls_of_every_function(SMALL_MODELS["one_head"]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_stays_float32(function, small):
    out = getattr(gpt2core.model, function)(**calls_of_every_function(small)[function])
    assert out.dtype == np.float32


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_inside_is_widened(function, small, monkeypatch):
    """Not only the result: each function that is called on the way gets and gives float32."""
    seen = []

    def watched(call):
        def watch(*args, **kwargs):
            out = call(*args, **kwargs)
            arrays = [*args, *kwargs.values(), out]
            seen.extend(a.dtype for a in arrays if isinstance(a, np.ndarray | np.generic))
            return out

        return watch

    calls = calls_of_every_function(small)
    for name in FUNCTIONS:
        monkeypatch.setattr(gpt2core.model, name, watched(getattr(gpt2core.model, name)))
    getattr(gpt2core.model, function)(**calls[function])
    assert set(seen) == {np.dtype(np.float32)}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments_are_not_changed(function, small):
    arguments = calls_of_every_function(small)[function]
    before = copy.deepcopy(arguments)
    getattr(gpt2core.model, function)(**arguments)
    np.testing.assert_equal(arguments, before)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_weights_may_be_read_only_as_a_memory_map_is(function, small):
    def lock(tree):
        if isinstance(tree, np.ndarray):
            tree.setflags(write=False)
        elif isinstance(tree, dict | list):
            for branch in tree.values() if isinstance(tree, dict) else tree:
                lock(branch)

    arguments = calls_of_every_function(small)[function]
    lock(arguments)
    # Raises if the function writes to an argument.
    getattr(gpt2core.model, function)(**arguments)


class WatchedNamespace:
    """NumPy, remembering which of its functions were asked for."""

    def __init__(self):
        self.asked = set()

    def __getattr__(self, name):
        self.asked.add(name)
        return getattr(np, name)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "linear"])
def test_another_array_namespace_does_all_the_work(function, small, monkeypatch):
    arguments = calls_of_every_function(small)[function]
    expected = getattr(gpt2core.model, function)(**arguments)
    # Without NumPy in the module, whatever does not go through xp fails.
    monkeypatch.setattr(gpt2core.model, "np", None)
    xp = WatchedNamespace()
    out = getattr(gpt2core.model, function)(**arguments, xp=xp)
    np.testing.assert_array_equal(out, expected)
    assert xp.asked


# Inputs


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda ids: np.array(ids, dtype=np.int32)])
def test_inputs_may_be_a_list_or_an_integer_array(kind):
    small = SMALL_MODELS["one_head"]
    expected = logits_of(small, small.ids())
    np.testing.assert_array_equal(logits_of(small, kind(small.ids())), expected)


@pytest.mark.parametrize("length", [0, 20, 1000])
def test_an_impossible_length_is_told_with_both_numbers(length):
    small = SMALL_MODELS["one_head"]
    with pytest.raises(InputError, match=f"1 to 19 token ids .* not {length}") as caught:
        logits_of(small, [1] * length)
    assert caught.value.numbers == {"n_prompt_tokens": length, "n_ctx": 19}
