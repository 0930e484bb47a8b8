"""The tokenizer is OpenAI's, exactly: ids, pieces, bytes, and text back.

``golden/bpe_goldens.jsonl`` holds texts on which tiktoken, Hugging Face tokenizers and
OpenAI's reference encoder agree.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2core.tokenizer.bpe
from gpt2core.errors import InputError
from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.bpe import LONG_PRE_TOKEN, Encoder
from gpt2core.tokenizer.explain import explain_encoding
from gpt2core.tokenizer.pattern import SPLIT_PATTERN
from gpt2core.tokenizer.table import ENDOFTEXT
from gpt2core.tokenizer.vocabulary import (
    VOCAB_PATH,
    default_encoder,
    read_merges,
)
from tests.helpers.texts import (
    ANY_TEXT,
    CAPES,
    CAPES_IDS,
    ENDOFTEXT_AS_TEXT,
    GOLDENS,
    N_GOLDENS,
    SURROGATES,
    TRICKY_TEXT,
    UTF8_TEXT,
    every_golden,
)

# OpenAI's released files.
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"


# The vocabulary


def test_vocab_bpe_is_openais_file():
    assert hashlib.sha256(VOCAB_PATH.read_bytes()).hexdigest() == VOCAB_BPE_SHA256


def test_the_id_table_is_openais_encoder_json_byte_for_byte(encoder):
    # The released file is this very dump of the table: same ids, same order, same escapes.
    dump = json.dumps(encoder.encoder).encode()
    assert hashlib.sha256(dump).hexdigest() == ENCODER_JSON_SHA256


def test_the_vocabulary_has_every_byte_every_merge_and_endoftext(encoder):
    assert encoder.n_vocab == 256 + 50_000 + 1
    assert encoder.endoftext == encoder.encoder[ENDOFTEXT] == 50256
    assert encoder.special_tokens == {ENDOFTEXT: 50256}
    assert len(encoder.merge_ranks) == 50_000


def test_merge_rank_is_the_line_of_the_merge_that_makes_a_token(encoder):
    for rank, (left, right) in enumerate(read_merges(VOCAB_PATH)):
        assert encoder.merge_rank(encoder.encoder[left + right]) == rank
    assert {encoder.merge_rank(token_id) for token_id in [*range(256), 50256]} == {None}


def test_encoder_and_decoder_are_inverse(encoder):
    assert {i: piece for piece, i in encoder.encoder.items()} == encoder.decoder
    assert list(encoder.decoder) == list(range(encoder.n_vocab))


# Goldens


def test_all_goldens_are_here():
    assert len(GOLDENS) == N_GOLDENS


@every_golden
def test_golden_ids_pieces_and_text(golden, encoder):
    ids = encoder.encode(golden["text"])
    assert ids == golden["ids"]
    assert [encoder.decoder[i] for i in ids] == golden["tokens"]
    assert encoder.decode(ids) == golden["text"]


@every_golden
def test_both_merge_paths_agree_on_goldens(golden, encoder):
    ids = {"merge_by_scanning": [], "merge_with_heap": []}
    for word in SPLIT_PATTERN.findall(golden["text"]):
        for path, merged in ids.items():
            symbols = [encoder.encoder[byte_alphabet()[byte]] for byte in word.encode()]
            merged += getattr(encoder, path)(symbols)
    assert ids["merge_by_scanning"] == golden["ids"]
    assert ids["merge_with_heap"] == golden["ids"]


@pytest.mark.parametrize("ending", ["s", "t", "re", "ve", "m", "ll", "d"])
def test_contractions_end_words_in_small_letters_after_a_straight_apostrophe_only(ending):
    assert SPLIT_PATTERN.findall(f"x'{ending}y") == ["x", f"'{ending}", "y"]
    assert SPLIT_PATTERN.findall(f"X'{ending.upper()}Y") == ["X", "'", f"{ending.upper()}Y"]
    assert SPLIT_PATTERN.findall(f"x’{ending}y") == ["x", "’", f"{ending}y"]
    assert SPLIT_PATTERN.findall(f"x '{ending}y") == ["x", " '", f"{ending}y"]


@given(UTF8_TEXT | TRICKY_TEXT)
def test_splitting_loses_nothing(text):
    assert "".join(SPLIT_PATTERN.findall(text)) == text


@given(UTF8_TEXT | TRICKY_TEXT | st.text("ab ", min_size=LONG_PRE_TOKEN))
def test_both_merge_paths_agree_on_any_word(text):
    encoder = default_encoder()
    symbols = [encoder.encoder[byte_alphabet()[byte]] for byte in text.encode()]
    assert encoder.merge_by_scanning(list(symbols)) == encoder.merge_with_heap(list(symbols))


@pytest.mark.parametrize("path", ["merge_by_scanning", "merge_with_heap"])
def test_every_token_that_merges_make_is_what_its_own_bytes_merge_to(path, encoder):
    merge, symbols = getattr(encoder, path), byte_alphabet()
    byte_ids = [encoder.encoder[symbols[byte]] for byte in range(256)]
    for token_id in range(50_256):
        assert merge([byte_ids[byte] for byte in encoder.token_bytes(token_id)]) == [token_id]


def test_the_example_sentence_has_the_known_ids(encoder):
    assert encoder.encode(CAPES) == CAPES_IDS
    assert [encoder.decoder[i] for i in CAPES_IDS] == "Not Ġall Ġheroes Ġwear Ġcap es .".split()
    assert encoder.decode(CAPES_IDS) == CAPES


@pytest.mark.parametrize("length", [LONG_PRE_TOKEN - 1, LONG_PRE_TOKEN, LONG_PRE_TOKEN + 1])
def test_words_around_the_change_of_merge_path_decode_to_themselves(length, encoder):
    word = ("aggravatingly" * 8)[:length]
    assert len(SPLIT_PATTERN.findall(word)) == 1
    ids = encoder.encode(word)
    assert len(ids) > 1 and encoder.decode(ids) == word
    assert ids == encoder.merge_by_scanning([encoder.encoder[c] for c in word])


def test_one_very_long_word_costs_a_few_lookups_a_letter(encoder):
    class CountingRanks(dict):
        looks = 0

        def __contains__(self, pair):
            CountingRanks.looks += 1
            return super().__contains__(pair)

        def get(self, *args):
            CountingRanks.looks += 1
            return super().get(*args)

    counting = Encoder(read_merges(VOCAB_PATH))
    counting.merge_ranks = CountingRanks(encoder.merge_ranks)
    word = "abcdefgh" * 1_000
    assert counting.encode(word) == encoder.encode(word)
    assert CountingRanks.looks < 4 * len(word)  # a look at each pair each time: 24 million


# Special tokens


def test_endoftext_is_ordinary_text_by_default(encoder):
    assert encoder.encode(ENDOFTEXT) == ENDOFTEXT_AS_TEXT
    assert encoder.decode(ENDOFTEXT_AS_TEXT) == ENDOFTEXT


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (ENDOFTEXT, [50256]),
        (ENDOFTEXT * 2, [50256, 50256]),
        (f"{CAPES}{ENDOFTEXT}{CAPES}", [*CAPES_IDS, 50256, *CAPES_IDS]),
        (CAPES, CAPES_IDS),
        ("<|endoftext|", ENDOFTEXT_AS_TEXT[:-1]),
        ("", []),
    ],
)
def test_endoftext_is_one_token_where_special_tokens_are_asked_for(text, ids, encoder):
    assert encoder.encode(text, special_tokens=True) == ids
    assert encoder.decode(ids) == text


# Any text


@given(UTF8_TEXT | TRICKY_TEXT, st.booleans())
def test_any_text_decodes_to_itself(text, special_tokens):
    encoder = default_encoder()
    ids = encoder.encode(text, special_tokens)
    assert encoder.decode(ids) == text
    assert b"".join(encoder.token_bytes(i) for i in ids) == text.encode("utf-8")


@given(ANY_TEXT | st.text(st.sampled_from([*SURROGATES[::256], "a", " ", "é", "🚀"])))
def test_a_lone_surrogate_becomes_the_replacement_character(text):
    encoder = default_encoder()
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    assert encoder.decode(encoder.encode(text)) == expected
    assert encoder.encode(text) == encoder.encode(expected)


@given(st.lists(st.integers(0, 50256)))
def test_any_ids_decode_to_some_text(ids):
    encoder = default_encoder()
    data = b"".join(encoder.token_bytes(i) for i in ids)
    assert encoder.decode(ids) == data.decode("utf-8", errors="replace")


@pytest.mark.parametrize("token_id", range(256))
def test_every_byte_is_a_token(token_id, encoder):
    (data,) = encoder.token_bytes(token_id)
    assert byte_alphabet()[data] == encoder.decoder[token_id]


@pytest.mark.parametrize("bad", [-1, 50257, 10**12])
def test_an_id_outside_the_vocabulary_is_an_error_with_the_id(bad, encoder):
    for call in (lambda: encoder.decode([0, bad]), lambda: encoder.token_bytes(bad)):
        with pytest.raises(InputError, match=f"{bad} is not in the vocabulary of 50,") as caught:
            call()
        assert caught.value.numbers == {"n_vocab": 50257}


# The cache of words


@pytest.fixture
def tiny_cache(monkeypatch, encoder) -> Encoder:
    """A tokenizer that caches ten words beyond the vocabulary."""
    monkeypatch.setattr(gpt2core.tokenizer.bpe, "CACHE_SIZE", 10)
    return Encoder(read_merges(VOCAB_PATH))


def unheard_words(n):
    """``n`` different words that are no tokens."""
    return [f" qz{chr(97 + i // 26)}{chr(97 + i % 26)}xj" for i in range(n)]


def test_the_word_cache_is_bounded_and_does_not_change_results(tiny_cache, encoder):
    at_first = len(tiny_cache._cache)
    largest = 0
    for word in unheard_words(200) * 2:
        assert tiny_cache.encode(word) == encoder.encode(word)
        largest = max(largest, len(tiny_cache._cache))
    assert largest == at_first + 10


def test_a_text_of_more_words_than_the_cache_holds_has_the_same_ids(tiny_cache, encoder):
    text = "".join(unheard_words(200)) * 2
    assert tiny_cache.encode(text) == encoder.encode(text)


def test_a_repeated_word_is_not_merged_again(monkeypatch):
    encoder = Encoder(read_merges(VOCAB_PATH))
    first = encoder.encode(" unbreakfastable")
    monkeypatch.setattr(encoder, "merge_by_scanning", None)
    assert len(first) > 1 and encoder.encode(" unbreakfastable") == first


def test_long_words_are_not_cached(encoder):
    before = len(encoder._cache)
    encoder.encode("x" * LONG_PRE_TOKEN + " " + "qzj" * 1000)
    assert len(encoder._cache) == before


def test_threads_share_a_tokenizer(tiny_cache):
    texts = [golden["text"] for golden in GOLDENS] + unheard_words(100)
    expected = [default_encoder().encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(lambda: [tiny_cache.encode(text) for text in texts]) for _ in range(8)]
        assert all(run.result() == expected for run in runs)


# Any merges


def plain_bpe(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """BPE by its definition: join the leftmost pair of the lowest rank until none is left."""
    symbols = list(word)
    while True:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        known = [pair for pair in pairs if pair in merges]
        if not known:
            return symbols
        # A pair that is listed twice has its last rank, as in Hugging Face tokenizers.
        best = min(known, key=lambda pair: len(merges) - merges[::-1].index(pair))
        at = pairs.index(best)
        symbols[at : at + 2] = ["".join(best)]


@st.composite
def merge_lists(draw) -> list[tuple[str, str]]:
    """Merges over a few letters, each of pieces that are there before it, in any order."""
    pieces, merges = list("abcd"), []
    for _ in range(draw(st.integers(1, 12))):
        pair = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
        merges.append(pair)
        pieces.append("".join(pair))
    return draw(st.permutations(merges))


@given(merge_lists(), st.lists(st.text("abcd", min_size=1, max_size=80), min_size=1, max_size=4))
def test_a2_for_any_merges_a_text_is_encoded_as_plain_bpe_does_it_and_as_explained(merges, words):
    table = {piece: i for i, piece in enumerate(byte_alphabet().values())}
    for left, right in merges:
        table.setdefault(left + right, len(table))
    encoder, text = Encoder(merges, table), " ".join(words)
    expected = [
        piece
        for position, word in enumerate(words)
        for piece in plain_bpe(word if position == 0 else f"Ġ{word}", merges)
    ]
    for _ in range(2):  # the second time from the cache
        assert [encoder.decoder[i] for i in encoder.encode(text)] == expected
    explained = explain_encoding(encoder, text)
    assert [piece for pre_token in explained for piece in pre_token.pieces] == expected


def test_a2_a_piece_that_its_merges_do_not_lead_to_is_not_looked_up():
    table = {piece: i for i, piece in enumerate(byte_alphabet().values())}
    table |= {"ab": 256, "bc": 257, "abc": 258}
    encoder = Encoder([("a", "b"), ("b", "c"), ("a", "bc")], table)
    assert [encoder.decoder[i] for i in encoder.encode("abc")] == ["ab", "c"]
