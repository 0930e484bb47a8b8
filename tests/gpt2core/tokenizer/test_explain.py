"""``Encoder.explain`` tells what ``encode`` does: every word, every merge, the same ids."""

import time

import pytest
from hypothesis import given

from gpt2core.tokenizer.bpe import (
    SPLIT_CLAUSES,
    SPLIT_PATTERN,
    Encoder,
    byte_alphabet,
    default_encoder,
    replace_surrogates,
)
from tests.gpt2core.tokenizer.test_bpe import ANY_TEXT, CAPES, CAPES_IDS, TRICKY_TEXT, every_golden


def names(text: str) -> list[tuple[str, str]]:
    return [(word.text, word.clause.name) for word in default_encoder().explain(text)]


def check(text: str, encoder: Encoder, max_symbols: int) -> None:
    """Everything an explanation promises about ``text``."""
    clean = replace_surrogates(text)
    words = encoder.explain(text, max_symbols)
    assert [id for word in words for id in word.ids] == encoder.encode(text)
    assert [word.text for word in words] == SPLIT_PATTERN.findall(clean)
    for word in words:
        assert clean[word.start :].startswith(word.text)
        assert word.symbols == tuple(byte_alphabet()[byte] for byte in word.text.encode())
        assert word.pieces == tuple(encoder.decoder[id] for id in word.ids)
        assert (word.steps is None) == (len(word.symbols) > max_symbols)
        check_steps(word, encoder)


def check_steps(word, encoder: Encoder) -> None:
    """Each step does what it says, and chose the lowest rank; the last leaves the tokens."""
    if word.steps is None:
        return
    symbols = word.symbols
    for step in word.steps:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        ranks = [
            encoder.merge_ranks.get((encoder.encoder[a], encoder.encoder[b])) for a, b in pairs
        ]
        assert step.ranks == tuple(ranks)
        assert step.rank == min(rank for rank in ranks if rank is not None)
        assert step.at == ranks.index(step.rank)
        assert (step.left, step.right) == pairs[step.at]
        assert step.result == step.left + step.right
        assert step.symbols == (*symbols[: step.at], step.result, *symbols[step.at + 2 :])
        symbols = step.symbols
    assert symbols == word.pieces
    assert len(word.steps) == word.n_merges


@every_golden
def test_goldens_are_explained_to_their_ids(golden, encoder):
    assert [id for word in encoder.explain(golden["text"]) for id in word.ids] == golden["ids"]
    check(golden["text"], encoder, max_symbols=64)


@given(ANY_TEXT | TRICKY_TEXT)
def test_any_text_is_explained_as_it_is_encoded(text):
    check(text, default_encoder(), max_symbols=64)


@pytest.mark.parametrize("max_symbols", [1, 5, 6, 7])
def test_long_words_keep_their_ids_and_lose_their_steps(max_symbols, encoder):
    check("heroes 🤖🤖 a", encoder, max_symbols)


def test_a_word_everybody_tries(encoder):
    words = encoder.explain(CAPES)
    assert [word.text for word in words] == ["Not", " all", " heroes", " wear", " capes", "."]
    assert [id for word in words for id in word.ids] == CAPES_IDS
    heroes = words[2]
    assert heroes.symbols == ("Ġ", "h", "e", "r", "o", "e", "s")
    assert [(step.rank, step.result) for step in heroes.steps] == [
        (2, "he"), (18, "es"), (49, "ro"), (83, "Ġhe"), (4037, "Ġhero"), (10025, "Ġheroes"),
    ]  # fmt: skip
    assert heroes.steps[0].ranks == (33, 2, 7, 49, 2321, 18)
    assert heroes.steps[3].ranks == (83, 11462, None)  # no merge knows "ro" + "es"


def test_every_clause_is_named_where_it_applied():
    assert names("I'll pay $20") == [
        ("I", "letters"), ("'ll", "contraction"), (" pay", "letters"), (" $", "signs"),
        ("20", "digits"),
    ]  # fmt: skip
    assert names("a   b\nc  ") == [
        ("a", "letters"), ("  ", "spare white space"), (" b", "letters"),
        ("\n", "last white space"), ("c", "letters"), ("  ", "spare white space"),
    ]  # fmt: skip
    assert names("’s 'S") == [("’", "signs"), ("s", "letters"), (" '", "signs"), ("S", "letters")]


def test_the_clauses_are_openais_pattern():
    assert SPLIT_PATTERN.pattern == (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )
    assert len({clause.name for clause in SPLIT_CLAUSES}) == len(SPLIT_CLAUSES) == 6
    assert all(clause.takes for clause in SPLIT_CLAUSES)


def test_nothing_to_explain(encoder):
    assert encoder.explain("") == []


def test_one_endless_word_is_explained_in_a_moment(encoder):
    started = time.monotonic()
    (word,) = encoder.explain("a" * 100_000)
    assert time.monotonic() - started < 20
    assert word.steps is None
    assert list(word.ids) == encoder.encode("a" * 100_000)


def test_explaining_leaves_the_tokenizer_as_it_was():
    encoder = default_encoder()
    before = dict(encoder._cache)
    encoder.explain("an unheardofword")
    assert encoder._cache == before
