"""The byte alphabet: every byte has a character of its own that prints."""

from gpt2core.tokenizer.alphabet import byte_alphabet


def test_the_byte_alphabet_is_one_printable_character_a_byte():
    alphabet = byte_alphabet()
    assert set(alphabet) == set(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in alphabet.values())
    assert (alphabet[0x20], alphabet[0x0A], alphabet[0x09]) == ("Ġ", "Ċ", "ĉ")
    # The bytes that hand-made tables forget: dashes and emoji are made of them.
    assert [alphabet[b] for b in (0x7F, 0xA0, 0xAD)] == ["ġ", "ł", "Ń"]
