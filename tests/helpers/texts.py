"""Texts that the tokenizer's tests share: an example, strategies for any text, goldens.

``golden/bpe_goldens.jsonl`` holds texts on which tiktoken, Hugging Face tokenizers and
OpenAI's reference encoder agree.
"""

import json

import pytest
from hypothesis import strategies as st

from gpt2core.tokenizer.table import ENDOFTEXT
from tests.helpers.paths import GOLDEN

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

GOLDENS = [
    json.loads(line)
    for line in (GOLDEN / "bpe_goldens.jsonl").read_text(encoding="utf-8").splitlines()
]
N_GOLDENS = 213


def golden_id(golden):
    return golden["source"].removeprefix("own: ").replace(" ", "_")


every_golden = pytest.mark.parametrize("golden", GOLDENS, ids=golden_id)
