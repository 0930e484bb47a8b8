"""/inside/heads: all heads by one measure, a layer's heads, one head; numbers read back."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.heads import (
    HABITS,
    explain_weight,
    head_habits,
    head_lengths,
    head_shares,
    moved,
)
from gpt2core.inside.recording import replay_block
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    REPEATED,
    SIZES,
    TEXT,
    address,
    number_in,
    numbers_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import HTMX, parse
from webapp.inside.instruments.heads import heads
from webapp.inside.instruments.measures import MEASURES
from webapp.inside.page import parsed, show
from webapp.inside.view import open_view

HALF = 0.0005  # of the last of three places
BORDERS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # of the ink levels 1 to 8


def shown_table(page):
    """The texts of the cells of the table of heads, by row."""
    (table,) = page.all("table", "inside-heads")
    (body,) = table.all("tbody")
    return [[cell.text for cell in row.all("td")] for row in body.all("tr")]


def expected(recording, name: str) -> np.ndarray:
    """A measure of the last token, ``[n_layer, n_head]``, without the web part."""
    p = recording.n_tokens - 1
    if name == "attribution":
        token = int(recording.logits(p).argmax())
        return head_shares(recording, p, logit_direction(recording, p, token))
    if name == "norm":
        return head_lengths(recording, p)
    return head_habits(recording, p)[..., HABITS.index(name)]


@pytest.mark.parametrize("name", [measure.name for measure in MEASURES])
def test_each_measure_shows_the_recordings_numbers(client, demo, name):
    values = expected(recorded(demo, REPEATED), name)
    page = open_page(client, "/inside/heads", prompt=REPEATED, measure=name)
    shown = [[number_in(text) for text in row] for row in shown_table(page)]
    assert np.allclose(shown, values, atol=HALF * 1.01)


@pytest.mark.parametrize("name", [measure.name for measure in MEASURES])
def test_ink_is_the_weight_or_the_share_of_the_largest_and_its_sign(client, demo, name):
    values = expected(recorded(demo, REPEATED), name)
    scale = np.abs(values).max() if name in ("attribution", "norm") else 1.0
    levels = (np.abs(values)[..., None] / scale >= BORDERS).sum(axis=-1)
    page = open_page(client, "/inside/heads", prompt=REPEATED, measure=name)
    (table,) = page.all("table", "inside-heads")
    shown = [cell.attributes["class"] for cell in table.all("td")]
    signs = np.where((values < 0) & (levels > 0), "n", "h")
    assert shown == [f"{s}{n}" for s, n in zip(signs.ravel(), levels.ravel(), strict=True)]


def test_a_measure_that_the_text_does_not_define_is_a_dash(client):
    page = open_page(client, "/inside/heads", prompt=TEXT, measure="copies")
    assert {text for row in shown_table(page) for text in row} == {"–"}
    assert "No earlier token of this text is “Ġit”" in page.words


def test_all_heads_together_is_the_sum_of_the_table(client, demo):
    page = open_page(client, "/inside/heads", prompt=TEXT)
    (explained,) = page.all("p", "inside-explained")
    total = number_in(explained.all("b", "number")[0].text)
    assert total == pytest.approx(expected(recorded(demo, TEXT), "attribution").sum(), abs=HALF)


def test_the_row_is_the_heads_pattern_and_adds_up_to_one(client, demo):
    page = open_page(client, "/inside/heads", prompt=TEXT, layer=1, head=2)
    (row,) = page.all("ol", "inside-row")
    shown = numbers_in(row.all(class_="number"))
    assert np.allclose(shown, recorded(demo, TEXT).patterns[1][2, -1], atol=HALF * 1.01)
    assert "it adds up to 1.0000" in row.attributes["aria-label"]


@pytest.mark.parametrize("show_", ["looks", "moves"])
@pytest.mark.parametrize("at", [65, 80, 256])
def test_earlier_tokens_and_window_add_up_to_one(client, demo, at, show_):
    text = text_of(demo, 256)
    page = open_page(client, "/inside/heads", prompt=text, at=at, show=show_)
    (row,) = page.all("ol", "inside-row")
    shown = numbers_in(row.all(class_="number"))
    assert f"… {at - 64} earlier" in row.words and len(shown) == 65
    assert sum(shown) == pytest.approx(1, abs=65 * HALF)


def test_what_moves_a_token_is_its_share_of_the_lengths_added(client, demo):
    recording = recorded(demo, TEXT)
    c_proj = demo.params["blocks"][2]["attn"]["c_proj"]
    v = replay_block(recording, 2).array("mha.v")
    lengths = moved(recording.patterns[2], v, c_proj)[1, 5]
    page = open_page(client, "/inside/heads", prompt=TEXT, at=6, layer=2, head=1, show="moves")
    (row,) = page.all("ol", "inside-row")
    shown = numbers_in(row.all(class_="number"))
    assert np.allclose(shown, lengths[:6] / lengths.sum(), atol=HALF * 1.01)
    together = page.all("section")[2].all("b", "number")[0]
    assert number_in(together.text) == pytest.approx(lengths.sum(), rel=1e-3)


def test_one_weight_is_followed_from_its_products_to_its_number(client, demo):
    recording = recorded(demo, TEXT)
    weight = explain_weight(replay_block(recording, 1), head=0, query=6, key=2)
    page = open_page(client, "/inside/heads", prompt=TEXT, at=7, layer=1, head=0, key=3)
    (way,) = page.all("ol", "inside-way")
    total, score, power, share = numbers_in(way.all("b", "number"))
    assert total == pytest.approx(weight.products.sum(), rel=1e-3)
    assert score == pytest.approx(weight.score, rel=1e-3)
    assert power == pytest.approx(weight.power, rel=1e-3)
    assert share == pytest.approx(weight.weight, abs=1e-4)
    assert total / 8 == pytest.approx(score, rel=2e-3)
    assert [link.attributes["href"] for link in way.all("a")] == [
        "/source/model.py#attention.scores",
        "/source/model.py#softmax.e",
        "/source/model.py#softmax.return",
    ]


def test_every_cell_chooses_its_head_and_the_chosen_one_is_marked(client):
    page = open_page(client, "/inside/heads", prompt=TEXT, cell="1.2")
    (table,) = page.all("table", "inside-heads")
    buttons = table.all("button")
    assert [b.attributes["value"] for b in buttons] == [
        f"{layer}.{head}" for layer in range(6) for head in range(3)
    ]
    (chosen,) = [b for b in buttons if b.attributes.get("aria-current")]
    assert chosen.attributes["value"] == "1.2"
    assert page.id("inside-one").words.startswith("Layer 1, head 2:")


def test_the_live_sentence_names_the_head_and_where_it_looks(client, demo):
    row = recorded(demo, TEXT).patterns[1][2, -1]
    pieces = [demo.encoder.decoder[id] for id in demo.encoder.encode(TEXT)]
    page = open_page(client, "/inside/heads", prompt=TEXT, cell="1.2")
    assert page.id("inside").attributes["data-sentence"] == (
        f"Layer 1, head 2: “Ġit” looks most at “{pieces[row.argmax()]}”, {row.max():.2f}; "
        f"at the first token {row[0]:.2f}."
    )


def test_the_link_to_a_view_is_that_view(client):
    fields = dict(prompt=TEXT, at=5, cell="1.1", measure="norm", show="moves", key=2)
    page = open_page(client, "/inside/heads", **fields)
    again = parse(client.get(page.id("inside").attributes["data-link"]).get_data(as_text=True))
    assert page.words == again.words


def test_htmx_gets_the_part_that_it_swaps(client):
    response = client.get(address("/inside/heads", prompt=TEXT), headers=HTMX)
    (part,) = [c for c in parse(response.get_data(as_text=True)).children if not isinstance(c, str)]
    assert part.attributes["id"] == "inside"


@pytest.mark.parametrize(
    "fields", [{"measure": "beauty"}, {"show": "x"}, {"at": 3, "key": 4}, {"key": 0}, {"key": "x"}]
)
def test_a_field_that_does_not_fit_is_refused_with_a_sentence(client, fields):
    response = client.get(address("/inside/heads", prompt=TEXT, **fields))
    assert response.status_code == 422
    errors = parse(response.get_data(as_text=True)).all("p", "error")
    assert any("must be" in error.words for error in errors)


@pytest.mark.parametrize("n_tokens", SIZES)
@pytest.mark.parametrize("show_", ["looks", "moves"])
def test_a_page_of_any_length_is_small(client, demo, n_tokens, show_):
    text = text_of(demo, n_tokens)
    response = client.get(address("/inside/heads", prompt=text, show=show_))
    assert response.status_code == 200 and len(response.data) <= MAX_BYTES
    assert b"style=" not in response.data and b"data:" not in response.data


def test_the_worst_patterns_of_the_most_heads_are_small(app, demo):
    n = 64
    rows = np.tril(np.resize([0.0, 0.101], (n, n)))  # ten runs a row, all of them drawn
    crowded = np.where(rows.cumsum(axis=1) <= 1, rows, 0).astype(np.float32)
    fine = np.tril(np.resize([0.0, 0.0201], (n, n))).astype(np.float32)  # a run in every second
    with app.test_request_context("/inside/heads"):
        query = parsed(demo, {"prompt": text_of(demo, n)})
        view = open_view("instruments.heads_page", {}, demo, query, app.extensions["recordings"])
        for pattern in (crowded, fine):
            patterns = tuple(np.stack([pattern] * 3) for _ in range(6))
            worst = replace(view, recording=replace(view.recording, patterns=patterns))
            found = heads(worst, MEASURES[0], "looks")
            thumbs = sum(len(path.d) for thumb in found.thumbnails for path in thumb.picture.paths)
            page = show(
                "inside/instruments/heads.html", worst, found=found, measures=MEASURES, shows=()
            )
            # 1558M has 25 heads a layer and 1,200 in all.
            assert len(page) + thumbs / 3 * 22 + 1188 * 90 <= MAX_BYTES


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_tokens_are_labels_as_they_are_chips(client, text):
    page = open_page(client, "/inside/heads", prompt=text)
    (strip,) = page.all("ol", "inside-strip")
    (row,) = page.all("ol", "inside-row")
    pieces = [piece.text for piece in row.all(class_="piece")]
    assert pieces == [piece.text for piece in strip.all(class_="piece")]


def test_the_file_has_every_measure_of_every_head(client, demo):
    response = client.get(address("/inside/heads.csv", prompt=REPEATED))
    rows = list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))
    recording = recorded(demo, REPEATED)
    for measure in MEASURES:
        values = [float(row[measure.name]) for row in rows]
        assert np.allclose(values, expected(recording, measure.name).ravel(), rtol=1e-6, atol=1e-7)
    assert response.headers["Content-Disposition"].startswith("attachment; filename=glyph-heads")


def test_the_file_is_empty_where_a_measure_is_not_defined(client):
    response = client.get(address("/inside/heads.csv", prompt=TEXT))
    rows = csv.DictReader(io.StringIO(response.get_data(as_text=True)))
    assert {row["copies"] for row in rows} == {""}
