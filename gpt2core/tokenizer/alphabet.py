"""The byte alphabet: one printable character for each of the 256 bytes.

BPE merges bytes, but a vocabulary file is text. GPT-2 therefore spells each byte as a
character that prints: a token written this way is a *piece* (``Ġall`` for ``b" all"``).
Lowest module of the tokenizer. Source: ``bytes_to_unicode`` in OpenAI's ``encoder.py``.
"""

from functools import lru_cache


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[int, str]:
    """Byte -> its symbol, 256 of them.

    A byte that prints in Latin-1 is its own symbol; the other 68 get U+0100, U+0101 …
    in order. The space (0x20) becomes ``Ġ`` (U+0120) that way, the line feed ``Ċ``.
    The order of the dict is the order of token ids 0 to 255: printing bytes come first.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(0x100 + len(alphabet) - len(printable))
    return alphabet
