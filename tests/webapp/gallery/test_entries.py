"""Each sentence of the gallery is true of GPT-2's tokenizer, and could be false of another one."""

import re
from collections import Counter

import pytest

from gpt2core.tokenizer.added import Rules
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, default_encoder, read_merges
from webapp.cut import Cut
from webapp.gallery.entry import CODE_MARK, Cuts, EntryView, ends_shown, in_one_line
from webapp.gallery.groups import GROUPS

ENTRIES = [entry for group in GROUPS for entry in group.entries]
SENTENCES = [(entry, number) for entry in ENTRIES for number in (0, 1)]
each_sentence = pytest.mark.parametrize(
    ("entry", "number"), SENTENCES, ids=[f"{e.text[:20]}-{n}" for e, n in SENTENCES]
)


@pytest.fixture(scope="module")
def others():
    """Tokenizers with fewer merges or special tokens: every condition is false of one of them."""
    merges = read_merges(VOCAB_PATH)
    fewer = [Encoder(merges[:n]) for n in (0, 300, 3_000, 30_000)]
    return [*fewer, Encoder(merges[:500], rules=Rules())]


@each_sentence
def test_it_is_true(entry, number):
    assert EntryView(entry, default_encoder()).holds[number]


@each_sentence
def test_its_condition_can_be_false(entry, number, others):
    assert not all(EntryView(entry, other).holds[number] for other in others)


@each_sentence
def test_no_number_of_tokens_is_typed(entry, number):
    """Digits stand in quotations and in what the tokenizer fills in, and in years."""
    template = re.sub(r"\{.*?\}|GPT-2", "", entry.sentences[number].template, flags=re.DOTALL)
    words = "".join(template.split(CODE_MARK)[::2])
    assert [digits for digits in re.findall(r"\d+", words) if not is_year(digits)] == []


def is_year(digits: str) -> bool:
    return re.fullmatch(r"20[12]\d", digits) is not None


@each_sentence
def test_its_quotations_are_closed(entry, number):
    assert entry.sentences[number].template.count(CODE_MARK) % 2 == 0


def test_there_are_some_twenty_five_texts_in_eleven_groups():
    assert 25 <= len(ENTRIES) <= 35
    assert len(GROUPS) == 11
    texts = Counter((entry.text, entry.special_tokens) for entry in ENTRIES)
    assert set(texts.values()) == {1}
    assert len({group.name for group in GROUPS}) == len(GROUPS)


def test_a_sentence_prints_what_the_tokenizer_gives(encoder):
    cut = Cut(encoder, " hello")
    assert (cut.tokens, cut.id, cut.cuts) == ("1 token", "23748", "Ġhello")
    assert (cut.characters, cut.bytes, cut.per_character) == ("6 characters", "6 bytes", "0.17")
    assert "{cut[ hello].id} {cut[2023].n}".format(cut=Cuts(encoder)) == "23748 2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a ", "a␣"), ("  a b", "␣␣a b"), ("   ", "␣␣␣"), ("", ""), ("a b", "a b")],
)
def test_spaces_at_the_ends_have_a_sign(text, shown):
    assert ends_shown(text) == shown


def test_a_quotation_is_in_one_line():
    assert in_one_line("a:\n\tb ") == "a:↵⇥b␣"
