"""GET /gallery: every entry with its own tokens, its sentences, and a link that opens it."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from gpt2core.hparams import HParams
from gpt2core.settings import Settings
from gpt2core.tokenizer.table import build_vocabulary
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.web import parse, write_small_model
from webapp import create_app
from webapp.gallery.entry import EntryView
from webapp.gallery.groups import GROUPS

ENTRIES = [entry for group in GROUPS for entry in group.entries]


@pytest.fixture(scope="module")
def page(app):
    return parse(app.test_client().get("/gallery").text)


def test_every_entry_shows_its_tokens_and_sentences(page):
    shown = page.all(class_="gallery-entry")
    assert len(shown) == len(ENTRIES)
    for entry, element in zip(ENTRIES, shown, strict=True):
        assert element.ids() == default_encoder().encode(entry.text, entry.special_tokens)
        view = EntryView(entry, default_encoder())
        sentences = ["".join(text for text, _ in parts) for parts in view.sentences]
        (said,) = element.all(class_="gallery-sentences")
        assert said.words == " ".join(" ".join(sentences).split())


def test_one_click_opens_an_entry_with_the_same_tokens(page, client):
    for entry, element in zip(ENTRIES, page.all(class_="gallery-entry"), strict=True):
        link = element.all("h3")[0].all("a")[0].attributes["href"]
        opened = parse(client.get(link).text)
        assert opened.id("prompt-strip").ids() == element.ids(), entry.text


def test_an_entry_leads_to_its_comparison(page):
    links = [a.attributes["href"] for a in page.all("a")]
    pairs = [parse_qs(urlsplit(link).query) for link in links if link.startswith("/compare?")]
    expected = [(entry.text, entry.against) for entry in ENTRIES if entry.against]
    assert [(pair["a"][0], pair["b"][0]) for pair in pairs] == expected and len(expected) > 20


def test_the_index_leads_to_every_group(page):
    (index,) = page.all(class_="gallery-index")
    anchors = [a.attributes["href"] for a in index.all("a")]
    assert anchors == [f"#{group.name}" for group in GROUPS]
    assert all(page.id(anchor[1:]) for anchor in anchors)


def test_the_chips_are_named_for_a_screen_reader(page):
    for chip in page.all(class_="chip"):
        assert chip.attributes["role"] == "img" and "token" in chip.attributes["aria-label"]


def test_the_main_page_leads_there_by_one_link(client):
    links = parse(client.get("/").text).all("a", href="/gallery")
    assert len(links) == 1


def test_a_model_with_another_tokenizer_is_mentioned(page, tmp_path):
    assert not page.all(id="other-tokenizer")
    folder = tmp_path / "other"
    write_small_model(folder, HParams(n_vocab=258, n_ctx=16, n_embd=12, n_head=2, n_layer=1))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\n", encoding="utf-8")
    vocabulary = json.dumps(build_vocabulary([("h", "e")]))
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    other = create_app(Settings(model="other", models_dir=tmp_path)).test_client()
    note = parse(other.get("/gallery").text).id("other-tokenizer").words
    assert f"cuts {len(ENTRIES)} of these" in note
