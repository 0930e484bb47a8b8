"""``HParams``: only consistent shapes exist; ``check_prompt``: only usable prompts pass."""

import numpy as np
import pytest

from gpt2core.errors import GPT2Error, InputError, ModelFileError
from gpt2core.hparams import MODEL_SIZES, HParams, check_prompt
from gpt2core.model import gpt2
from tests.helpers.small_models import SMALL_MODELS

OPENAI_124M = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}
HUGGINGFACE_124M = {  # the keys of the released config.json that matter here, and some that do not
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}


@pytest.mark.parametrize(
    ("size", "n_params"),
    [
        ("124M", 124_439_808),
        ("355M", 354_823_168),
        ("774M", 774_030_080),
        ("1558M", 1_557_611_200),
    ],
)
def test_the_released_sizes_have_the_released_numbers_of_weights(size, n_params):
    assert MODEL_SIZES[size].n_params == n_params


def test_exactly_the_four_released_sizes_are_named():
    assert list(MODEL_SIZES) == ["124M", "355M", "774M", "1558M"]


def test_n_params_counts_what_params_hold(small):
    def count(tree):
        if isinstance(tree, dict):
            return sum(count(branch) for branch in tree.values())
        return sum(map(count, tree)) if isinstance(tree, list) else tree.size

    assert small.hparams.n_params == count(small.params())


@pytest.mark.parametrize(
    "values",
    [
        OPENAI_124M,
        HUGGINGFACE_124M,
        {k: v for k, v in HUGGINGFACE_124M.items() if k != "n_ctx"},
        {**OPENAI_124M, "comment": "other keys are ignored"},
    ],
    ids=["openai", "huggingface", "huggingface_without_n_ctx", "with_other_keys"],
)
def test_both_file_formats_give_the_same_shape(values):
    assert HParams.from_dict(values) == MODEL_SIZES["124M"]


def test_to_dict_and_from_dict_are_inverse(small):
    assert HParams.from_dict(small.hparams.to_dict()) == small.hparams
    assert MODEL_SIZES["124M"].to_dict() == OPENAI_124M


@pytest.mark.parametrize("name", OPENAI_124M)
@pytest.mark.parametrize("value", [0, -1, 1.0, 768.5, "12", None, True, [12], float("nan")])
def test_a_number_that_is_not_positive_and_whole_is_an_error_with_its_name(name, value):
    with pytest.raises(ModelFileError, match=rf"\b{name}\b"):
        HParams.from_dict({**OPENAI_124M, name: value})


@pytest.mark.parametrize("name", OPENAI_124M)
def test_a_missing_number_is_named(name):
    with pytest.raises(ModelFileError, match=rf"lack {name}\b"):
        HParams.from_dict({k: v for k, v in OPENAI_124M.items() if k != name})


def test_an_empty_file_is_an_error():
    with pytest.raises(ModelFileError, match="nothing"):
        HParams.from_dict({})


def test_heads_must_divide_the_channels():
    with pytest.raises(ModelFileError, match="n_embd is 768 and n_head is 7"):
        HParams(n_embd=768, n_head=7)


def test_a_shape_cannot_be_changed():
    with pytest.raises(AttributeError):
        MODEL_SIZES["124M"].n_layer = 13


@pytest.mark.parametrize("ids", [[0], [9], [0, 9, 3], [5] * 7, (1, 2), np.array([1, 2, 9])])
def test_a_valid_prompt_passes(ids):
    check_prompt(ids, n_vocab=10, n_ctx=8)


@pytest.mark.parametrize("empty", [[], (), np.array([], dtype=int)])
def test_an_empty_prompt_is_an_error(empty):
    with pytest.raises(InputError, match="empty") as caught:
        check_prompt(empty, n_vocab=10, n_ctx=8)
    assert caught.value.field == "prompt"


@pytest.mark.parametrize("length", [8, 9, 1200])
def test_a_prompt_longer_than_the_context_is_an_error_with_both_numbers(length):
    with pytest.raises(InputError, match=f"{length:,} tokens.*holds 8.*at most 7 ") as caught:
        check_prompt([1] * length, n_vocab=10, n_ctx=8)
    assert caught.value.field == "prompt"
    assert caught.value.numbers == {"n_prompt_tokens": length, "n_ctx": 8}


@pytest.mark.parametrize("ids", [[-1], [10], [1, 2, 10_000], [3, -7, 12]])
def test_an_id_outside_the_vocabulary_is_an_error_with_the_id(ids):
    bad = next(i for i in ids if i not in range(10))
    with pytest.raises(InputError, match=rf"id {bad} .*ends at 9") as caught:
        check_prompt(ids, n_vocab=10, n_ctx=8)
    assert caught.value.field == "prompt"
    assert caught.value.numbers == {"id": bad, "n_vocab": 10}


def test_invalid_input_and_files_are_value_errors_with_a_sentence():
    for error in (InputError, ModelFileError):
        assert issubclass(error, GPT2Error) and issubclass(error, ValueError)
    small = SMALL_MODELS["one_head"]
    with pytest.raises(ValueError, match=r"1 to 19 token ids .* not 20"):
        gpt2([1] * 20, **small.params(), n_head=1)


@pytest.mark.parametrize("n_layer", [10_001, 10**12])
def test_a_number_of_layers_that_no_model_has_is_an_error_and_takes_no_memory(n_layer):
    with pytest.raises(ModelFileError, match=f"n_layer is {n_layer}; it can be 10,000 at most"):
        HParams(n_embd=12, n_head=2, n_layer=n_layer)
