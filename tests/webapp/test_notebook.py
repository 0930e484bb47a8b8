"""What a notebook shows: the page's own chips and pictures, self-contained, and numbers as text."""

import re
import sys

import numpy as np
import pytest

from gpt2core import Continuation, GPT2Error, SamplingParams, record_pass, show, stream
from gpt2core.errors import InputError
from gpt2core.showing import show_attribution, show_head, show_lens
from tests.helpers.web import HEROES, HEROES_IDS, HEROES_PIECES, ROBOT, parse
from webapp.inside.numbers import fixed
from webapp.notebook_style import SCOPE, applies, style_for

TEXT = f"Once upon a time {ROBOT} \n\t日"


@pytest.fixture(scope="module")
def recording(demo):
    return record_pass(demo.encoder.encode(TEXT), demo.params, demo.hparams.n_head)


@pytest.fixture(scope="module")
def generation(demo):
    ids = demo.encoder.encode("Once upon a")
    found = Continuation(demo.encoder, "Once upon a", ids)
    for token in stream(demo.engine(), ids, 5, SamplingParams(temperature=0.7, seed=1)):
        found.add(token)
    return found


@pytest.fixture(scope="module")
def displays(demo, recording, generation):
    """Everything that can be shown."""
    return {
        "tokens": show(TEXT),
        "generation": show(generation),
        "head": show_head(recording, 1, 2, encoder=demo.encoder),
        "lens": show_lens(recording),
        "attribution": show_attribution(recording),
    }


KINDS = ["tokens", "generation", "head", "lens", "attribution"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def shown(display):
    """The parsed HTML of a display, without its style."""
    return parse(re.sub("<style>.*?</style>", "", display._repr_html_(), flags=re.DOTALL))


@each_kind
def test_it_is_one_element_that_needs_nothing_else(displays, kind):
    html = displays[kind]._repr_html_()
    assert [child.attributes["class"] for child in parse(html).children] == [SCOPE]
    assert not re.search(r"<script|<button|<link|\bhref=|\bsrc=|\bid=|url\(|@import", html)
    assert len(html) < 40_000


@each_kind
def test_every_rule_applies_inside_the_element_only(displays, kind):
    (style,) = re.findall("<style>(.*?)</style>", displays[kind]._repr_html_(), re.DOTALL)
    outer = re.sub(r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", ";", style)
    preludes = [prelude.strip() for prelude in outer.split(";") if prelude.strip()]
    assert len(preludes) >= 4 and all(SCOPE in prelude for prelude in preludes)


def test_a_text_has_its_chips_with_pieces_and_ids(encoder):
    page = shown(encoder.show(HEROES))
    assert page.ids() == HEROES_IDS and page.pieces() == HEROES_PIECES
    assert page.all(class_="counts")[0].words == "7 tokens 26 characters 26 bytes"


def test_a_text_is_readable_in_a_terminal(encoder):
    lines = repr(encoder.show(HEROES)).splitlines()
    assert lines == [
        "Not   Ġall  Ġheroes  Ġwear  Ġcap  es   .",
        "3673  477   10281    5806   1451  274  13",
    ]
    long = repr(encoder.show(" word" * 100))
    assert max(map(len, long.splitlines())) <= 79
    assert long.split().count("Ġword") == 100


def test_special_tokens_are_read_on_request():
    assert shown(show("<|endoftext|>", special_tokens=True)).ids() == [50256]
    assert "50256" not in repr(show("<|endoftext|>"))


def test_a_generation_has_a_bar_for_each_generated_token(displays, generation):
    page = shown(displays["generation"])
    tokens = [*generation.prompt_tokens, *(step.token for step in generation.steps)]
    assert page.ids() == [token.id for token in tokens]
    levels = [f"p{round(10 * np.exp(step.generated.logprob))}" for step in generation.steps]
    generated = page.all(class_="generated")
    assert [chip.attributes["class"].split()[-1] for chip in generated] == levels
    assert generation.text in page.text and generation.text in repr(displays["generation"])


def test_a_head_shows_its_own_weights(displays, recording):
    weights = recording.patterns[1][2]
    page = shown(displays["head"])
    row = page.all("ol", class_="inside-row")[0].all(class_="number")
    assert [number.text for number in row] == [fixed(w) for w in weights[-1]]
    cells = [cell.text for cell in page.all("table", class_="inside-matrix")[0].all("td")[1:]]
    assert cells == [fixed(weights[q, k]) for q in range(len(weights)) for k in range(q + 1)]
    assert f"{weights[-1, 0]:.4f}" in repr(displays["head"])


def test_the_lens_ends_with_the_answer(displays, recording, demo):
    rows = shown(displays["lens"]).all("tbody")[0].all("tr")
    assert len(rows) == recording.n_layer + 1
    answer = demo.encoder.decoder[int(recording.last_logits.argmax())]
    assert rows[-1].all("td")[-1].all(class_="piece")[0].text == answer
    assert "the answer" in repr(displays["lens"])


def test_shares_add_up_to_the_logit(displays, recording):
    logit = fixed(float(recording.last_logits.max()), 4)
    page = shown(displays["attribution"])
    assert page.all("tfoot")[0].all("td")[-1].text.lstrip("+") == logit
    assert page.all("li", class_="holds")
    assert f"logit {recording.last_logits.max():.4f}" in repr(displays["attribution"])


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda r: show_head(r, 99, 0), "layer"),
        (lambda r: show_head(r, 0, 99), "head"),
        (lambda r: show_lens(r, at=99), "at"),
        (lambda r: show_attribution(r, token=10**6), "for"),
    ],
)
def test_what_is_not_there_is_refused_at_the_call(recording, call, field):
    with pytest.raises(InputError) as caught:
        call(recording)
    assert caught.value.field == field


def test_without_the_pages_packages_the_error_names_what_is_missing(monkeypatch, encoder):
    monkeypatch.setitem(sys.modules, "webapp", None)
    with pytest.raises(GPT2Error, match=r"which need webapp.*pip install \."):
        encoder.show("a")._repr_html_()
    assert repr(encoder.show("a")) == "a\n64"


@pytest.mark.parametrize(
    ("selector", "is_kept"),
    [
        (".chip .piece", True),
        (".chip .id", False),
        (".chip:is(.piece, .id)", True),
        (":is(.id, .note) .chip", False),
        (".chip:is(.id, :first-child)", True),
        ("p", False),
        ("#strip .chip", False),
        ('[data-view="id"] .chip', False),
        (".chip:hover", False),
    ],
)
def test_only_rules_for_classes_that_occur_are_kept(selector, is_kept):
    assert applies(selector, {"chip", "piece"}) == is_kept


def test_forced_colours_are_kept_and_print_is_not():
    style = style_for('<span class="chip c0">')
    assert "@media (forced-colors: active)" in style
    assert "print" not in style and "--tint: light-dark(" in style
