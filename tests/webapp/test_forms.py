"""A form, permalink or JSON object becomes a request, or every error at once."""

import pytest

from gpt2core.hparams import HParams
from tests.helpers.web import HEROES, HEROES_IDS, JSON
from webapp.forms import (
    FormErrors,
    default_fields,
    parse_n_tokens,
    parse_request,
    stop_lines,
)

SHAPE = HParams(n_vocab=50257, n_ctx=64, n_embd=8, n_head=1, n_layer=1)


@pytest.fixture
def parse(encoder):
    """``parse(**fields)`` as the routes call it."""
    return lambda **fields: parse_request(fields, encoder, SHAPE, max_chars=1000)


@pytest.fixture
def errors(parse):
    """``errors(**fields)``: the messages by field."""

    def errors(**fields):
        with pytest.raises(FormErrors) as found:
            parse(**fields)
        return found.value.by_field()

    return errors


def test_a_prompt_alone_is_enough(parse):
    request = parse(prompt=HEROES)
    assert request.ids == HEROES_IDS
    assert request.prompt == HEROES
    assert request.n_tokens >= 1
    assert request.sampling.seed is not None


def test_fields_may_be_text_or_numbers(parse):
    text = parse(prompt="a", n_tokens="5", temperature="0.5", top_k="3", top_p=".9", seed="1")
    numbers = parse(prompt="a", n_tokens=5, temperature=0.5, top_k=3, top_p=0.9, seed=1)
    assert text == numbers
    assert (text.n_tokens, text.sampling.temperature, text.sampling.top_k) == (5, 0.5, 3)
    assert (text.sampling.top_p, text.sampling.seed) == (0.9, 1)


@pytest.mark.parametrize("n_ctx", [1, 64, 200, 1024])
def test_the_default_length_fits_every_context(encoder, n_ctx):
    assert parse_n_tokens({}, n_ctx) == int(default_fields(n_ctx)["n_tokens"]) == min(200, n_ctx)


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_empty_fields_take_their_defaults(parse, empty):
    fields = dict.fromkeys(("n_tokens", "temperature", "top_k", "top_p"), empty)
    assert parse(prompt="a", seed=1, **fields) == parse(prompt="a", seed=1)


def test_without_a_seed_each_run_gets_its_own(parse):
    assert len({parse(prompt="a").sampling.seed for _ in range(8)}) > 1


def test_a_seed_is_honoured(parse):
    assert parse(prompt="a", seed="0").sampling.seed == 0
    assert parse(prompt="a", seed=str(2**32 - 1)).sampling.seed == 2**32 - 1


def test_all_invalid_fields_are_found_at_once(errors):
    found = errors(prompt="", n_tokens="x", temperature="9", top_k="-1", top_p="0", seed="-3")
    assert set(found) == {"prompt", "n_tokens", "temperature", "top_k", "top_p", "seed"}
    assert "empty" in found["prompt"]


@pytest.mark.parametrize("n_tokens", ["0", "-1", "65", "1000000", 0])
def test_the_number_of_tokens_is_bounded_by_the_context(errors, n_tokens):
    found = errors(prompt="a", n_tokens=n_tokens)
    assert set(found) == {"n_tokens"}
    assert f"{int(n_tokens):,}" in found["n_tokens"] and "64" in found["n_tokens"]


@pytest.mark.parametrize(("text", "number"), [("0,8", 0.8), ("0.8", 0.8), (",5", 0.5)])
def test_a_decimal_comma_is_understood(parse, text, number):
    assert parse(prompt="a", temperature=text).sampling.temperature == number


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_tokens", "1.5"), ("n_tokens", "ten"), ("n_tokens", True), ("n_tokens", [3]),
        ("temperature", "nan"), ("temperature", "inf"), ("temperature", "-0.1"),
        ("temperature", "1e999"), ("temperature", {}),
        ("temperature", "1,000.5"), ("temperature", "0,8,1"), ("top_k", "1,5"),
        ("top_k", "-1"), ("top_k", "1.5"), ("top_k", False),
        ("top_p", "0"), ("top_p", "1.01"), ("top_p", "nan"), ("top_p", "-1"),
        ("seed", "-1"), ("seed", str(2**32)), ("seed", "1.0"), ("seed", "seed"),
        ("seed", "9" * 10_000), ("temperature", "\0"),
    ],
)  # fmt: skip
def test_an_invalid_number_is_reported_for_its_field(errors, field, value):
    found = errors(prompt="a", **{field: value})
    assert set(found) == {field}
    assert len(found[field]) < 200


def test_a_prompt_that_leaves_room_for_one_token_is_accepted(parse, errors):
    assert len(parse(prompt="a" + " a" * 62).ids) == 63
    message = errors(prompt="a" + " a" * 63)["prompt"]
    assert "64" in message


def test_a_text_over_the_limit_is_refused_before_it_is_tokenized(errors):
    message = errors(prompt="a" * 1001)["prompt"]
    assert "1,001" in message and "1,000" in message


@pytest.mark.parametrize("prompt", [None, 5, ["a"], {"a": 1}, True])
def test_a_prompt_that_is_not_text_is_refused(errors, prompt):
    assert set(errors(prompt=prompt)) == {"prompt"}


def test_errors_keep_the_submitted_fields(parse):
    with pytest.raises(FormErrors) as found:
        parse(prompt="mine", n_tokens="x")
    assert found.value.values["prompt"] == "mine"
    assert found.value.values["n_tokens"] == "x"


@pytest.mark.parametrize(
    "kept", [[1e400], [1.7], {"5": 1}, [True], "1;2", [-1], ["x"], [50257], "1,,2", [7] * 300]
)
def test_invalid_kept_tokens_are_refused(client, kept):
    answer = client.post("/generate", json={"prompt": "hi", "kept": kept}, headers=JSON)
    assert answer.status_code == 422
    assert answer.json["error"]["field"] == "kept"


def test_digits_with_underscores_are_not_a_number(client):
    answer = client.post("/generate", json={"prompt": "hi", "n_tokens": "1_0"}, headers=JSON)
    assert answer.status_code == 422


@pytest.mark.parametrize(("flag", "fresh"), [("1", True), (True, True), ("", False), (None, False)])
def test_regenerate_is_a_flag_that_asks_for_another_seed(parse, flag, fresh):
    request = parse(prompt="a", seed="7", kept="1", regenerate=flag)
    assert request.kept == [1]
    assert (request.sampling.seed != 7) == fresh  # but for one chance in 4 thousand million


@pytest.mark.parametrize("flag", ["262,749", "yes", [1], 2])
def test_a_flag_has_no_other_value(errors, flag):
    assert "regenerate" in errors(prompt="a", regenerate=flag)["prompt"]


def test_an_empty_prompt_says_what_to_do(errors):
    assert "type at least one character" in errors(prompt="")["prompt"]
    assert "type at least one character" in errors(prompt="", kept="262")["prompt"]


def test_the_longest_number_has_thirty_digits(parse, errors):
    assert parse(prompt="a", seed="7".zfill(30)).sampling.seed == 7
    assert parse(prompt="a", kept="5".zfill(30)).kept == [5]
    assert set(errors(prompt="a", seed="7".zfill(31))) == {"seed"}
    assert set(errors(prompt="a", kept="5".zfill(31))) == {"prompt"}


@pytest.mark.parametrize(
    ("typed", "stop"),
    [
        ("", ()),
        (".", (".",)),
        ("\\n\\n", ("\n\n",)),
        ("one\r\n two \n\nthree", ("one", " two ", "three")),
        ("a\\tb\\\\n\\q", ("a\tb\\n\\q",)),
        ([".", "\n", "\\n"], (".", "\n", "\\n")),
        (None, ()),
    ],
)
def test_stop_strings_are_lines_with_escapes_or_a_list(parse, typed, stop):
    assert parse(prompt="a", stop=typed).stop == stop
    assert parse(prompt="a", stop=stop_lines(stop)).stop == stop


@pytest.mark.parametrize("stop", ["1\n2\n3\n4\n5", ["a", 1], [""], {"a": 1}, 7, "x" * 501])
def test_invalid_stop_strings_are_reported_beside_their_field(errors, stop):
    assert set(errors(prompt="a", stop=stop)) == {"stop"}
