"""``explain_encoding`` shows what ``encode`` does: every pre-token, every merge, the same ids."""

import time

import pytest
from hypothesis import given

from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import replace_surrogates
from gpt2core.tokenizer.explain import explain_encoding
from gpt2core.tokenizer.pattern import SPLIT_ALTERNATIVES, SPLIT_PATTERN
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import ANY_TEXT, CAPES, CAPES_IDS, TRICKY_TEXT, every_golden


def names(text: str) -> list[tuple[str, str]]:
    return [
        (pre_token.text, pre_token.alternative.name)
        for pre_token in explain_encoding(default_encoder(), text)
    ]


def check(text: str, encoder: Encoder, max_symbols: int) -> None:
    """Everything an explanation promises about ``text``."""
    clean = replace_surrogates(text)
    pre_tokens = explain_encoding(encoder, text, max_symbols)
    assert [token_id for pre_token in pre_tokens for token_id in pre_token.ids] == encoder.encode(
        text
    )
    assert [pre_token.text for pre_token in pre_tokens] == SPLIT_PATTERN.findall(clean)
    for pre_token in pre_tokens:
        assert clean[pre_token.start :].startswith(pre_token.text)
        assert pre_token.symbols == tuple(byte_alphabet()[byte] for byte in pre_token.text.encode())
        assert pre_token.pieces == tuple(encoder.decoder[token_id] for token_id in pre_token.ids)
        assert (pre_token.steps is None) == (len(pre_token.symbols) > max_symbols)
        check_steps(pre_token, encoder)


def check_steps(pre_token, encoder: Encoder) -> None:
    """Each step does what it says, and chose the lowest rank; the last leaves the tokens."""
    if pre_token.steps is None:
        return
    symbols = pre_token.symbols
    for step in pre_token.steps:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        ranks = [
            encoder.merge_ranks.get((encoder.encoder[a], encoder.encoder[b])) for a, b in pairs
        ]
        assert step.ranks == tuple(ranks)
        assert step.rank == min(rank for rank in ranks if rank is not None)
        assert step.position == ranks.index(step.rank)
        assert (step.left, step.right) == pairs[step.position]
        assert step.result == step.left + step.right
        assert step.symbols == (
            *symbols[: step.position],
            step.result,
            *symbols[step.position + 2 :],
        )
        symbols = step.symbols
    assert symbols == pre_token.pieces
    assert len(pre_token.steps) == pre_token.n_merges


@every_golden
def test_goldens_are_explained_to_their_ids(golden, encoder):
    assert [
        token_id
        for pre_token in explain_encoding(encoder, golden["text"])
        for token_id in pre_token.ids
    ] == golden["ids"]
    check(golden["text"], encoder, max_symbols=64)


@given(ANY_TEXT | TRICKY_TEXT)
def test_any_text_is_explained_as_it_is_encoded(text):
    check(text, default_encoder(), max_symbols=64)


@pytest.mark.parametrize("max_symbols", [1, 5, 6, 7])
def test_long_pre_tokens_keep_their_ids_and_lose_their_steps(max_symbols, encoder):
    check("heroes 🤖🤖 a", encoder, max_symbols)


def test_the_merges_of_the_example_sentence(encoder):
    pre_tokens = explain_encoding(encoder, CAPES)
    assert [pre_token.text for pre_token in pre_tokens] == [
        "Not",
        " all",
        " heroes",
        " wear",
        " capes",
        ".",
    ]
    assert [token_id for pre_token in pre_tokens for token_id in pre_token.ids] == CAPES_IDS
    heroes = pre_tokens[2]
    assert heroes.symbols == ("Ġ", "h", "e", "r", "o", "e", "s")
    assert [(step.rank, step.result) for step in heroes.steps] == [
        (2, "he"), (18, "es"), (49, "ro"), (83, "Ġhe"), (4037, "Ġhero"), (10025, "Ġheroes"),
    ]  # fmt: skip
    assert heroes.steps[0].ranks == (33, 2, 7, 49, 2321, 18)
    assert heroes.steps[3].ranks == (83, 11462, None)  # no merge knows "ro" + "es"


def test_each_pre_token_names_the_alternative_that_matched():
    assert names("I'll pay $20") == [
        ("I", "letters"), ("'ll", "contraction"), (" pay", "letters"), (" $", "signs"),
        ("20", "digits"),
    ]  # fmt: skip
    assert names("a   b\nc  ") == [
        ("a", "letters"), ("  ", "spare white space"), (" b", "letters"),
        ("\n", "last white space"), ("c", "letters"), ("  ", "spare white space"),
    ]  # fmt: skip
    assert names("’s 'S") == [("’", "signs"), ("s", "letters"), (" '", "signs"), ("S", "letters")]


def test_the_alternatives_are_openais_pattern():
    assert SPLIT_PATTERN.pattern == (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )
    assert (
        len({alternative.name for alternative in SPLIT_ALTERNATIVES})
        == len(SPLIT_ALTERNATIVES)
        == 6
    )
    assert all(alternative.description for alternative in SPLIT_ALTERNATIVES)


def test_an_empty_text_has_no_pre_tokens(encoder):
    assert explain_encoding(encoder, "") == []


def test_one_very_long_word_is_explained_in_seconds(encoder):
    started = time.monotonic()
    (pre_token,) = explain_encoding(encoder, "a" * 100_000)
    assert time.monotonic() - started < 20
    assert pre_token.steps is None
    assert list(pre_token.ids) == encoder.encode("a" * 100_000)


def test_explaining_leaves_the_tokenizer_as_it_was():
    encoder = default_encoder()
    before = dict(encoder._cache)
    explain_encoding(encoder, "an unheardofword")
    assert encoder._cache == before
