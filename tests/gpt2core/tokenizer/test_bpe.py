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
from gpt2core.errors import InputError, ModelFileError
from gpt2core.tokenizer.bpe import (
    ENDOFTEXT,
    LONG_WORD,
    SPLIT_PATTERN,
    VOCAB_PATH,
    Encoder,
    StreamDecoder,
    byte_alphabet,
    default_encoder,
    encoder_from_directory,
    read_merges,
    token_spans,
)
from tests.helpers.paths import GOLDEN

GOLDENS_PATH = GOLDEN / "bpe_goldens.jsonl"
GOLDENS = [json.loads(line) for line in GOLDENS_PATH.read_text(encoding="utf-8").splitlines()]
N_GOLDENS = 213

# OpenAI's released files.
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"

CAPES = "Not all heroes wear capes."
CAPES_IDS = [3673, 477, 10281, 5806, 1451, 274, 13]
ENDOFTEXT_AS_TEXT = [27, 91, 437, 1659, 5239, 91, 29]

SURROGATES = [chr(code) for code in range(0xD800, 0xE000)]
ANY_TEXT = st.text(st.characters() | st.sampled_from(SURROGATES))  # lone surrogates included
UTF8_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Text of what the tokenizer treats apart, so that short examples meet its corners.
TRICKY_TEXT = st.lists(
    st.sampled_from(
        ["'s", "'S", "’s", "'ll", " ", "  ", "\n", "\r\n", "\t", "\x1c", "\x85", "\xa0", "\u3000"]
        + ["a", "É", "e\u0301", "ſ", "1", "²", "Ⅷ", "٣", "_", "$", "—", "the", " the", "http://"]
        + [ENDOFTEXT, "🚀", "👩\u200d🚀", "日本", "Ġ", "\x00", "\ufffd", "\ufeff", "\U0010ffff"]
    )
).map("".join)


def golden_id(golden):
    return golden["source"].removeprefix("own: ").replace(" ", "_")


every_golden = pytest.mark.parametrize("golden", GOLDENS, ids=golden_id)


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
    assert {encoder.merge_rank(id) for id in [*range(256), 50256]} == {None}


def test_encoder_and_decoder_are_inverse(encoder):
    assert {i: piece for piece, i in encoder.encoder.items()} == encoder.decoder
    assert list(encoder.decoder) == list(range(encoder.n_vocab))


def test_the_byte_alphabet_is_one_printable_character_a_byte():
    alphabet = byte_alphabet()
    assert set(alphabet) == set(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in alphabet.values())
    assert (alphabet[0x20], alphabet[0x0A], alphabet[0x09]) == ("Ġ", "Ċ", "ĉ")
    # The bytes that hand-made tables forget: dashes and emoji are made of them.
    assert [alphabet[b] for b in (0x7F, 0xA0, 0xAD)] == ["ġ", "ł", "Ń"]


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
def test_both_merge_paths_and_the_whole_word_shortcut_agree(golden, encoder):
    ids = {"_merge_short": [], "_merge_long": []}
    for word in SPLIT_PATTERN.findall(golden["text"]):
        for path, merged in ids.items():
            symbols = [encoder.encoder[byte_alphabet()[byte]] for byte in word.encode()]
            merged += getattr(encoder, path)(symbols)
    assert ids["_merge_short"] == golden["ids"]
    assert ids["_merge_long"] == golden["ids"]


@pytest.mark.parametrize("ending", ["s", "t", "re", "ve", "m", "ll", "d"])
def test_contractions_end_words_in_small_letters_after_a_straight_apostrophe_only(ending):
    assert SPLIT_PATTERN.findall(f"x'{ending}y") == ["x", f"'{ending}", "y"]
    assert SPLIT_PATTERN.findall(f"X'{ending.upper()}Y") == ["X", "'", f"{ending.upper()}Y"]
    assert SPLIT_PATTERN.findall(f"x’{ending}y") == ["x", "’", f"{ending}y"]
    assert SPLIT_PATTERN.findall(f"x '{ending}y") == ["x", " '", f"{ending}y"]


@given(UTF8_TEXT | TRICKY_TEXT)
def test_splitting_loses_nothing(text):
    assert "".join(SPLIT_PATTERN.findall(text)) == text


@given(UTF8_TEXT | TRICKY_TEXT | st.text("ab ", min_size=LONG_WORD))
def test_both_merge_paths_agree_on_any_word(text):
    encoder = default_encoder()
    symbols = [encoder.encoder[byte_alphabet()[byte]] for byte in text.encode()]
    assert encoder._merge_short(list(symbols)) == encoder._merge_long(list(symbols))


@pytest.mark.parametrize("path", ["_merge_short", "_merge_long"])
def test_every_token_that_merges_make_is_what_its_own_bytes_merge_to(path, encoder):
    # Why a word that is a token may be looked up without merging.
    merge, symbols = getattr(encoder, path), byte_alphabet()
    byte_ids = [encoder.encoder[symbols[byte]] for byte in range(256)]
    for id in range(50_256):
        assert merge([byte_ids[byte] for byte in encoder.token_bytes(id)]) == [id]


def test_the_sentence_that_everybody_tries(encoder):
    assert encoder.encode(CAPES) == CAPES_IDS
    assert [encoder.decoder[i] for i in CAPES_IDS] == "Not Ġall Ġheroes Ġwear Ġcap es .".split()
    assert encoder.decode(CAPES_IDS) == CAPES


@pytest.mark.parametrize("length", [LONG_WORD - 1, LONG_WORD, LONG_WORD + 1])
def test_words_around_the_change_of_merge_path_come_back(length, encoder):
    word = ("aggravatingly" * 8)[:length]
    assert len(SPLIT_PATTERN.findall(word)) == 1
    ids = encoder.encode(word)
    assert len(ids) > 1 and encoder.decode(ids) == word
    assert ids == encoder._merge_short([encoder.encoder[c] for c in word])


def test_one_endless_word_costs_a_few_looks_a_letter(encoder):
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


def test_endoftext_that_a_person_typed_is_ordinary_text(encoder):
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
def test_any_text_comes_back(text, special_tokens):
    encoder = default_encoder()
    ids = encoder.encode(text, special_tokens)
    assert encoder.decode(ids) == text
    assert b"".join(encoder.token_bytes(i) for i in ids) == text.encode("utf-8")


@given(ANY_TEXT | st.text(st.sampled_from([*SURROGATES[::256], "a", " ", "é", "🚀"])))
def test_what_utf8_cannot_hold_becomes_the_replacement_character(text):
    encoder = default_encoder()
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    assert encoder.decode(encoder.encode(text)) == expected
    assert encoder.encode(text) == encoder.encode(expected)


@given(st.lists(st.integers(0, 50256)))
def test_any_ids_are_some_text(ids):
    encoder = default_encoder()
    data = b"".join(encoder.token_bytes(i) for i in ids)
    assert encoder.decode(ids) == data.decode("utf-8", errors="replace")


@pytest.mark.parametrize("id", range(256))
def test_every_byte_is_a_token(id, encoder):
    (data,) = encoder.token_bytes(id)
    assert byte_alphabet()[data] == encoder.decoder[id]


@pytest.mark.parametrize("bad", [-1, 50257, 10**12])
def test_an_id_outside_the_vocabulary_is_told(bad, encoder):
    for call in (lambda: encoder.decode([0, bad]), lambda: encoder.token_bytes(bad)):
        with pytest.raises(InputError, match=f"{bad} is not in the vocabulary of 50,") as caught:
            call()
        assert caught.value.numbers == {"n_vocab": 50257}


# The cache of words


@pytest.fixture
def tiny_cache(monkeypatch, encoder) -> Encoder:
    """A tokenizer that remembers ten words beyond the vocabulary."""
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


def test_a_text_of_more_words_than_the_cache_holds_is_cut_the_same(tiny_cache, encoder):
    text = "".join(unheard_words(200)) * 2
    assert tiny_cache.encode(text) == encoder.encode(text)


def test_a_word_met_again_is_not_merged_again(monkeypatch):
    encoder = Encoder(read_merges(VOCAB_PATH))
    first = encoder.encode(" unbreakfastable")
    monkeypatch.setattr(encoder, "_merge_short", None)
    assert len(first) > 1 and encoder.encode(" unbreakfastable") == first


def test_long_words_are_not_kept(encoder):
    before = len(encoder._cache)
    encoder.encode("x" * LONG_WORD + " " + "qzj" * 1000)
    assert len(encoder._cache) == before


def test_threads_share_a_tokenizer(tiny_cache):
    texts = [golden["text"] for golden in GOLDENS] + unheard_words(100)
    expected = [default_encoder().encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(lambda: [tiny_cache.encode(text) for text in texts]) for _ in range(8)]
        assert all(run.result() == expected for run in runs)


# Spans


@given(ANY_TEXT | TRICKY_TEXT)
def test_spans_cover_the_text_and_hold_each_tokens_characters(text):
    encoder = default_encoder()
    tokens = [encoder.token_bytes(i) for i in encoder.encode(text)]
    spans = token_spans(text, tokens)
    assert len(spans) == len(tokens)
    end_before = 0
    for (start, end), token in zip(spans, tokens, strict=True):
        assert start < end and start in (end_before, end_before - 1)  # no gap; one shared at most
        shown = "".join("\ufffd" if c in SURROGATES else c for c in text[start:end]).encode()
        assert token in shown
        assert len(shown) - len(token) <= 6  # of a character at either end, 3 bytes may be others'
        end_before = end
    assert end_before == len(text)


def test_spans_of_an_emoji_in_three_tokens_share_its_character(encoder):
    tokens = [encoder.token_bytes(i) for i in encoder.encode("a🦄é")]
    assert tokens == [b"a", b"\xf0\x9f", b"\xa6", b"\x84", b"\xc3\xa9"]
    assert token_spans("a🦄é", tokens) == [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]


# Streams


def feed_in_pieces(data: bytes, cuts: list[int]) -> str:
    decoder = StreamDecoder()
    at = sorted(min(cut, len(data)) for cut in cuts)
    pieces = [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
    return "".join(decoder.feed(piece) for piece in pieces) + decoder.flush()


# Bytes that open, continue and break characters, more often than chance would bring them.
UTF8_LIKE = st.lists(
    st.sampled_from(["a", "é", "日", "🚀", "\ufffd"]).map(str.encode)
    | st.sampled_from([b"\x80", b"\xbf", b"\xc0", b"\xc3", b"\xe0\x80", b"\xed\xa0", b"\xff"])
    | st.sampled_from([b"\xe6\x97", b"\xf0\x9f\x9a", b"\xf0\x80", b"\xf4\x8f", b"\xf5"])
).map(b"".join)


@given(st.binary() | UTF8_LIKE, st.lists(st.integers(0, 30)))
def test_a_stream_in_any_pieces_is_the_text_in_one(data, cuts):
    assert feed_in_pieces(data, cuts) == data.decode("utf-8", errors="replace")


@given(UTF8_TEXT | TRICKY_TEXT)
def test_a_stream_shows_each_character_as_soon_as_it_is_whole(text):
    decoder, shown = StreamDecoder(), ""
    data = text.encode()
    for at, byte in enumerate(data, 1):
        shown += decoder.feed(bytes([byte]))
        assert shown == data[:at].decode("utf-8", errors="ignore")
    assert decoder.flush() == ""


def test_a_flushed_stream_decoder_starts_a_new_text():
    decoder = StreamDecoder()
    assert decoder.feed(b"caf\xc3") == "caf"
    assert decoder.flush() == "\ufffd"
    assert decoder.feed(b"\xa9") == "\ufffd"  # the rest of a character whose start is gone
    assert decoder.feed("é".encode()) == "é"
    assert decoder.flush() == ""


def test_a_stream_decoder_tells_which_bytes_wait():
    decoder = StreamDecoder()
    assert decoder.pending == b""
    decoder.feed("ab🦄".encode()[:-1])
    assert decoder.pending == b"\xf0\x9f\xa6"
    decoder.feed(b"\x84")
    assert decoder.pending == b""
    decoder.feed(b"\xc3")
    decoder.flush()
    assert decoder.pending == b""


def test_an_emoji_of_several_tokens_streams_unbroken(encoder):
    decoder = StreamDecoder()
    tokens = [encoder.token_bytes(i) for i in encoder.encode("Hi 🦄!")]
    assert tokens == [b"Hi", b" \xf0\x9f", b"\xa6", b"\x84", b"!"]
    assert [decoder.feed(token) for token in tokens] == ["Hi", " ", "", "🦄", "!"]


# Vocabulary files


def write_vocabulary(folder, merges_name, ids_name, table):
    folder.joinpath(merges_name).write_bytes(VOCAB_PATH.read_bytes())
    folder.joinpath(ids_name).write_text(json.dumps(table), encoding="utf-8")


@pytest.mark.parametrize("names", [("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json")])
def test_a_models_own_vocabulary_files_are_read(tmp_path, names, encoder):
    # The last two pieces change places, so that the file is seen to be used.
    table = {**encoder.encoder, "Ġgazed": 50256, ENDOFTEXT: 50255}
    write_vocabulary(tmp_path, *names, table)
    own = encoder_from_directory(tmp_path)
    assert own.endoftext == 50255
    assert own.encode(" gazed") == [50256]
    assert own.encode(CAPES) == CAPES_IDS


def test_a_folder_without_vocabulary_files_gets_gpt2s_own(tmp_path):
    assert encoder_from_directory(tmp_path) is default_encoder()


@pytest.mark.parametrize(
    ("there", "lacks"),
    [("vocab.bpe", "encoder.json"), ("encoder.json", "vocab.bpe"), ("merges.txt", "vocab.json")],
)
def test_half_a_vocabulary_is_told(tmp_path, there, lacks):
    tmp_path.joinpath(there).write_text("{}")
    with pytest.raises(ModelFileError, match=f"has {there} but not {lacks}"):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "not json",
        "[1, 2]",
        '{"a": "0"}',
        '{"a": 0.0}',
        '{"a": true}',
        '{"a": [0]}',
        "{}",
        '{"a": 0}',
    ],
)
def test_a_damaged_id_table_is_told(tmp_path, table):
    write_vocabulary(tmp_path, "vocab.bpe", "encoder.json", {})
    tmp_path.joinpath("encoder.json").write_text(table, encoding="utf-8")
    with pytest.raises(ModelFileError, match="encoder.json|an id of its own"):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize("change", [{"Ġgazed": 0}, {"Ġgazed": 60_000}, {"Ġgazed": -1}])
def test_ids_that_are_not_one_for_each_piece_are_told(tmp_path, change, encoder):
    write_vocabulary(tmp_path, "vocab.bpe", "encoder.json", {**encoder.encoder, **change})
    with pytest.raises(ModelFileError, match="an id of its own"):
        encoder_from_directory(tmp_path)


def tokenizer_json(encoder, merges, **changes):
    """What Hugging Face's libraries write for GPT-2, with other parts where ``changes`` say so."""
    vocabulary = {piece: i for piece, i in encoder.encoder.items() if piece != ENDOFTEXT}
    return {
        "version": "1.0",
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 50256, "content": ENDOFTEXT, "special": True}],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    } | changes


@pytest.mark.parametrize("spelling", [list, " ".join], ids=["pairs", "older_strings"])
def test_a_tokenizer_json_is_read(tmp_path, spelling, encoder):
    merges = [spelling(pair) for pair in read_merges(VOCAB_PATH)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(encoder, merges)), encoding="utf-8")
    own = encoder_from_directory(tmp_path)
    assert own.encoder == encoder.encoder and own.merge_ranks == encoder.merge_ranks
    assert own.encode(CAPES) == CAPES_IDS and own.endoftext == 50256


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"pre_tokenizer": None},
        {"model": {"type": "WordPiece", "vocab": {}}},
        {"model": None},
        {"added_tokens": [{"id": 50256}]},
        {"added_tokens": [{"id": 0, "content": "<pad>"}]},
    ],
    ids=str,
)
def test_a_tokenizer_json_of_another_kind_is_told(tmp_path, changes, encoder):
    values = tokenizer_json(encoder, read_merges(VOCAB_PATH), **changes)
    tmp_path.joinpath("tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelFileError):
        encoder_from_directory(tmp_path)


@pytest.mark.parametrize("merges", ["", "#version: 0.2\n", "#version: 0.2\na b c\n", "one\n"])
def test_a_damaged_merge_list_is_told(tmp_path, merges):
    path = tmp_path / "vocab.bpe"
    path.write_text(merges)
    with pytest.raises(ModelFileError, match="vocab.bpe is not a BPE vocabulary"):
        read_merges(path)


@pytest.mark.parametrize("data", [b"\xff\xfe not UTF-8", None])
def test_a_merge_list_that_cannot_be_read_is_told(tmp_path, data):
    path = tmp_path / "vocab.bpe"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_merges(path)


def test_a_merge_list_with_windows_line_ends_is_the_same(tmp_path):
    path = tmp_path / "vocab.bpe"
    path.write_bytes(VOCAB_PATH.read_bytes().replace(b"\n", b"\r\n"))
    assert read_merges(path) == read_merges(VOCAB_PATH)
