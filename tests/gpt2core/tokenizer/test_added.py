"""Added tokens are found in a text as Hugging Face tokenizers finds them, and spell text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.tokenizer.added import AddedToken, AddedTokens, Rules
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.table import VocabularyError
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, default_encoder, read_merges
from tests.helpers.texts import ANY_TEXT, TRICKY_TEXT

USER = AddedToken("<|user|>", 50257, special=True)
BOT = AddedToken("<|bot|>", 50258, special=True)
FUR = AddedToken("für", 50259)
END = AddedToken("<|endoftext|>", 50256, special=True)


def with_added(*tokens: AddedToken, **rules) -> Encoder:
    """GPT-2's tokenizer with these tokens."""
    return Encoder(
        read_merges(VOCAB_PATH), default_encoder().encoder, Rules((END, *tokens), **rules)
    )


@pytest.fixture(scope="module")
def chat() -> Encoder:
    return with_added(USER, BOT, FUR)


def test_a4_an_added_token_is_one_id(chat):
    assert chat.encode("<|user|>Hello<|bot|>", special_tokens=True) == [50257, 15496, 50258]
    assert len(chat.encode("<|user|>Hello<|bot|>", special_tokens=False)) == 11


def test_a_token_that_is_not_special_is_found_in_any_text(chat):
    assert chat.encode("für", special_tokens=False) == chat.encode("für") == [50259]


def test_the_content_of_an_added_token_is_text_and_not_spelled_in_the_byte_alphabet(chat):
    assert chat.decode([50259]) == "für"
    assert chat.token_bytes(50259) == "für".encode()
    assert chat.decoder[50259] == "für"


def test_special_tokens_are_read_by_default_only_if_the_rules_say_so(chat):
    assert len(chat.encode("<|user|>")) > 1
    assert with_added(USER, reads_special_tokens=True).encode("<|user|>") == [50257]


@pytest.mark.parametrize(
    ("flags", "text", "parts"),
    [
        ({"lstrip": True}, "a \n<m> b", ["a", " \n<m>", " b"]),
        ({"rstrip": True}, "a <m> \nb", ["a ", "<m> \n", "b"]),
        ({"lstrip": True, "rstrip": True}, " <m> <m> ", [" <m> ", "<m> "]),
        ({"single_word": True}, "x<m> <m>x <m>", ["x<m> <m>x ", "<m>"]),
        ({}, "<m><m>", ["<m>", "<m>"]),
        ({}, "", []),
    ],
)
def test_flags_say_what_around_a_token_belongs_to_it(flags, text, parts):
    found = AddedTokens([AddedToken("<m>", 1, **flags)]).split(text, special_tokens=False)
    assert [text[part.start : part.end] for part in found] == parts


def test_white_space_that_belongs_to_a_token_is_not_another_one():
    tokens = AddedTokens([AddedToken("x ", 1, rstrip=True), AddedToken(" ", 2, lstrip=True)])
    assert [(part.start, part.end) for part in tokens.split("x  ", False)] == [(0, 3)]


def test_of_two_tokens_at_a_place_the_longest_is_found():
    tokens = AddedTokens([AddedToken("ab", 1), AddedToken("abc", 2), AddedToken("b", 3)])
    found = [part.token.id for part in tokens.split("abcabb", False) if part.token]
    assert found == [2, 1, 3]


def test_a_special_token_that_is_not_asked_for_hides_what_is_inside_it():
    tokens = AddedTokens([AddedToken("<a>", 1), AddedToken("<a><b>", 2, special=True)])
    assert [part.token for part in tokens.split("<a><b>", False)] == [None]


@given(ANY_TEXT | TRICKY_TEXT | st.text(st.sampled_from("<|user>fürbot \n")), st.booleans())
def test_any_text_comes_back_and_every_token_has_its_characters(text, special_tokens):
    encoder = CHAT
    tokens = encoder.tokens(text, special_tokens)
    assert [token.id for token in tokens] == encoder.encode(text, special_tokens)
    clean = encoder.decode(encoder.encode(text, special_tokens))
    assert len(clean) == len(text)
    assert all(0 <= token.start < token.end <= len(text) for token in tokens)
    for token in tokens:
        assert encoder.token_bytes(token.id) in clean[token.start : token.end].encode()


CHAT = with_added(USER, BOT, FUR)


def test_a_first_token_and_a_prefix_space_have_no_characters_of_the_text():
    encoder = with_added(FUR, add_prefix_space=True, first_ids=(50256,))
    assert encoder.tokens("Not all für x") == [
        (50256, 0, 0), (1892, 0, 3), (477, 3, 7), (220, 7, 8), (50259, 8, 11), (2124, 11, 13),
    ]  # fmt: skip
    assert encoder.encode("") == [50256]


def test_a_piece_that_is_not_text_is_an_error():
    with pytest.raises(VocabularyError, match=r"not text: '\\ud800'"):
        with_added(AddedToken("\ud800", 50257))
