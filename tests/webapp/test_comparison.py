"""Two texts aligned by their tokens: nothing is lost, and what agrees is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.errors import InputError
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import TRICKY_TEXT
from webapp.comparison import MAX_TOKENS, compare, side


def comparison(a: str, b: str):
    return compare(side(default_encoder(), a, "a"), side(default_encoder(), b, "b"))


def ids(columns, name: str) -> list[int]:
    return [c.token.id for col in columns for g in getattr(col, name) for c in g.chips]


@given(TRICKY_TEXT, TRICKY_TEXT | st.text())
def test_columns_hold_every_token_once_in_order_and_agree_where_ids_do(a, b):
    found = comparison(a, b)
    assert ids(found.columns, "a") == found.a.ids
    assert ids(found.columns, "b") == found.b.ids
    for column in found.columns:
        assert column.agrees == (ids([column], "a") == ids([column], "b"))


def test_one_word_that_differs_is_one_column():
    found = comparison("I definitely agree", "I definately agree")
    assert [column.agrees for column in found.columns] == [True, False, True]
    assert found.n_same == 2


def test_a_token_that_is_frequent_in_a_long_text_is_aligned_too():
    words = " a" * 300
    found = comparison(f"x{words}", f"y{words}")
    assert found.n_same == 300


def test_emoji_that_begin_alike_share_their_first_tokens():
    found = comparison("🤖", "🤗")
    assert [column.agrees for column in found.columns] == [True, False]
    assert found.n_same == 2


def test_costs_are_tokens_for_each_character_and_byte():
    found = comparison("naïve", "the cat").a
    assert (found.n, found.n_chars, found.n_bytes) == (2, 5, 6)
    assert (found.per_character, found.per_byte) == ("0.40", "0.33")


def test_a_text_of_too_many_tokens_is_refused_with_both_numbers():
    side(default_encoder(), " a" * MAX_TOKENS, "b")
    with pytest.raises(InputError, match=f"{MAX_TOKENS + 1:,} tokens long; at most") as caught:
        side(default_encoder(), " a" * (MAX_TOKENS + 1), "b")
    assert caught.value.field == "b"
