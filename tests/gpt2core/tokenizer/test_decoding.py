"""Bytes of tokens to text: spans cover the text, streams show whole characters at once."""

from hypothesis import given
from hypothesis import strategies as st

from gpt2core.tokenizer.decoding import StreamDecoder, token_spans
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.texts import ANY_TEXT, SURROGATES, TRICKY_TEXT, UTF8_TEXT

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
def test_a_stream_in_any_fragments_is_the_same_text(data, cuts):
    assert feed_in_pieces(data, cuts) == data.decode("utf-8", errors="replace")


@given(UTF8_TEXT | TRICKY_TEXT)
def test_a_stream_returns_each_character_as_soon_as_it_is_complete(text):
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


def test_a_stream_decoder_shows_its_pending_bytes():
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
