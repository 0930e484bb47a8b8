"""The fields of an inside view: checked in one go, and an address for any text."""

import pytest

from gpt2core.hparams import HParams
from webapp.forms import FormErrors
from webapp.inside.query import parse_query, token_id, token_value

HPARAMS = HParams(n_vocab=50_257, n_ctx=256, n_embd=12, n_head=2, n_layer=1)


@pytest.fixture
def parse(encoder):
    return lambda **values: parse_query(values, encoder, HPARAMS, 1000)


def test_numbers_are_read_and_empty_ones_are_none(parse):
    query = parse(prompt="a b", at="2", layer="0", head="", **{"for": "7"})
    assert (query.at, query.layer, query.head, query.token) == (2, 0, None, 7)
    assert query.sampling.seed == 0 and query.sampling.temperature == 0.7


def test_a_cell_is_layer_and_head(parse):
    query = parse(prompt="a", cell="5.7", layer="1", head="1")
    assert (query.layer, query.head) == (5, 7)


def test_every_bad_field_is_named_at_once(parse):
    bad = {"at": "x", "layer": "1.5", "head": "٣", "for": "1_0", "against": "1" * 10, "kept": "a"}
    with pytest.raises(FormErrors) as refused:
        parse(prompt="a" * 1001, temperature="9", **bad)
    fields = {error.field for error in refused.value.errors}
    assert fields == {"prompt", "temperature", *bad}


@pytest.mark.parametrize("cell", ["5", "5.", ".7", "-1.2", "5.7.1", "a.b"])
def test_a_bad_cell_is_a_bad_head(parse, cell):
    with pytest.raises(FormErrors) as refused:
        parse(prompt="a", cell=cell)
    assert [error.field for error in refused.value.errors] == ["head"]


def test_a_prompt_as_json_holds_what_a_field_cannot(parse):
    assert parse(prompt_json='"a\\r\\nb\\u0000"').prompt == "a\r\nb\x00"
    assert parse(prompt="a\r\nb").prompt == "a\nb"
    with pytest.raises(FormErrors):
        parse(prompt_json="a")


def test_ids_alone_that_are_a_texts_own_become_the_text(parse, encoder):
    text = "naïve 日本語 text"
    ids = encoder.encode(text)
    query = parse(kept=",".join(map(str, ids)))
    assert (query.prompt, query.kept, list(query.ids)) == (text, (), ids)


@pytest.mark.parametrize("kept", ["172", "50256", "64,64"])
def test_ids_alone_that_no_text_gives_stay_ids(parse, kept):
    query = parse(kept=kept)
    assert query.prompt == "" and ",".join(map(str, query.ids)) == kept


def test_the_prompts_tokens_come_before_the_kept_ones(parse, encoder):
    query = parse(prompt="Not all", kept="10281,5806")
    assert list(query.ids) == [*encoder.encode("Not all"), 10281, 5806]
    assert query.n_prompt == 2


@pytest.mark.parametrize(
    ("typed", "id"),
    [
        ("373", 373),
        (" 373 ", 373),
        (" was", 373),
        ("was", 9776),
        ("Ġwas", 373),
        (" ", 220),
        ("é", 2634),  # the text, not the byte that is spelled so
        ("Ċ", 198),
        ("<|endoftext|>", 50256),
    ],
)
def test_a_token_is_named_by_its_id_its_text_or_its_piece(parse, typed, id):
    query = parse(prompt="a", **{"for": typed, "against": typed})
    assert (query.token, query.against) == (id, id)


def test_a_text_of_several_tokens_is_refused_with_its_tokens(parse):
    with pytest.raises(FormErrors) as caught:
        parse(prompt="a", against=" wasn't it")
    (error,) = caught.value.errors
    assert error.field == "against"
    assert "3 tokens" in str(error) and "Ġwasn" in str(error)


def test_the_value_of_a_field_names_its_token_again(encoder):
    for id in (*range(300), 373, 2634, 1238, 12131, 50256):
        value = token_value(id, encoder)
        assert token_id({"for": value}, "for", encoder) == id
    assert token_value(373, encoder) == "Ġwas"
    assert token_value(encoder.encoder["7"], encoder) == str(encoder.encoder["7"])
