"""/inside/lens: the likeliest token by layer and token, ranks, and the rows as a stream."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from gpt2core.inside.lens import half_steps, lens, lens_grid, ranks
from gpt2core.inside.recording import early_logits
from gpt2core.sampling import log_softmax
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    SIZES,
    TEXT,
    address,
    number_in,
    numbers_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import HTMX, messages, parse, shown
from webapp.inside.instruments.lens import grid_rows, page_of, states
from webapp.inside.page import parsed, show
from webapp.inside.view import open_view

HALF = 0.00501  # of the last of two places


def grid(element):
    """(row's name, pieces, probabilities) of each row."""
    return [
        (
            row.all("th")[0].words,
            [cell.all(class_="piece")[0].text for cell in row.all("td")],
            numbers_in(row.all(class_="number")),
        )
        for row in element.all("tr")
    ]


def test_the_grid_is_the_recordings_lens(client, demo):
    found = lens_grid(recorded(demo, TEXT), range(8))
    page = open_page(client, "/inside/lens", prompt=TEXT)
    rows = grid(page.id("lens-rows"))
    assert [name for name, _, _ in rows] == [
        "embedding",
        *(f"after layer {layer}" for layer in range(demo.hparams.n_layer - 1)),
        f"after layer {demo.hparams.n_layer - 1} = the answer",
    ]
    for (_, pieces, probabilities), ids, expected in zip(
        rows, found.ids, found.probabilities, strict=True
    ):
        assert pieces == [demo.encoder.decoder[id] for id in ids]
        assert np.allclose(probabilities, expected, atol=HALF)


def test_the_last_row_is_the_answer_of_an_unrecorded_pass(client, demo):
    from gpt2core.model import gpt2

    ids = demo.encoder.encode(TEXT)
    logits = gpt2(ids, **demo.params, n_head=demo.hparams.n_head)  # [n_seq, n_vocab]
    page = open_page(client, "/inside/lens", prompt=TEXT)
    _, pieces, probabilities = grid(page.id("lens-rows"))[-1]
    assert pieces == [demo.encoder.decoder[int(row.argmax())] for row in logits]
    expected = [np.exp(log_softmax(row)).max() for row in logits]
    assert np.allclose(probabilities, expected, atol=HALF)
    (check,) = page.all("li", "holds")
    assert "The last row is the model’s answer" in check.words


def test_half_steps_stand_between_the_layers(client, demo):
    recording = recorded(demo, TEXT)
    logits = half_steps(recording, 7)  # [n_layer, n_vocab]
    page = open_page(client, "/inside/lens", prompt=TEXT, half=1)
    rows = grid(page.id("lens-rows"))
    assert len(rows) == 2 * demo.hparams.n_layer + 1
    for layer, row in enumerate(logits):
        name, pieces, probabilities = rows[2 * layer + 1]
        assert name == f"layer {layer}, attention added"
        assert pieces[-1] == demo.encoder.decoder[int(row.argmax())]
        assert probabilities[-1] == pytest.approx(np.exp(log_softmax(row)).max(), abs=HALF)


@pytest.mark.parametrize("at", [1, 5, 12, 13, 200])
def test_the_columns_are_the_chosen_token_and_the_eleven_before(client, demo, at):
    page = open_page(client, "/inside/lens", prompt=text_of(demo, 256), at=at)
    (head,) = page.all("table", "inside-lens")[0].all("thead")
    columns = [int(column.attributes["data-at"]) for column in head.all("th")]
    assert columns == list(range(max(at - 11, 1), at + 1))
    assert (f"{at - 12} stand before them" in page.words) == (at > 12)


def test_the_table_has_the_rank_of_every_token_that_led(client, demo):
    logits = lens(recorded(demo, TEXT), 7)  # [n_layer + 1, n_vocab]
    ids = list(dict.fromkeys(int(row.argmax()) for row in logits[::-1]))
    page = open_page(client, "/inside/lens", prompt=TEXT)
    (table,) = page.all("table", "inside-rank-table")
    (head,), (body,), (foot,) = (table.all(tag) for tag in ("thead", "tbody", "tfoot"))
    assert [p.text for p in head.all(class_="piece")] == [demo.encoder.decoder[i] for i in ids]
    shown_ranks = [[number_in(cell.text) for cell in row.all("td")] for row in body.all("tr")]
    assert np.array_equal(shown_ranks, ranks(logits, ids))
    expected = np.exp(log_softmax(logits[-1]))[ids]
    assert np.allclose(numbers_in(foot.all("td")), expected, atol=0.000051)


def test_the_lines_stand_as_high_as_the_ranks_in_the_table(client):
    page = open_page(client, "/inside/lens", prompt=TEXT)
    (body,) = page.all("table", "inside-rank-table")[0].all("tbody")
    table = np.array([[number_in(c.text) for c in row.all("td")] for row in body.all("tr")])
    lines = page.all("polyline")
    assert len(lines) == table.shape[1]
    for line in lines:
        number = int(line.attributes["class"].removeprefix("line-"))
        heights = [float(p.split(",")[1]) for p in line.attributes["points"].split()]
        share = (np.array(heights) - 30) / 270  # of the way down from rank 1
        assert np.allclose(50257**share, table[:, number - 1], rtol=0.01)


def test_the_sentence_says_since_when_the_answer_leads(client, demo):
    best = lens(recorded(demo, TEXT), 7).argmax(axis=-1)
    since = max(i for i in range(len(best)) if best[i - 1] != best[-1])
    page = open_page(client, "/inside/lens", prompt=TEXT)
    assert f"is likeliest after layer {since - 1}, and from there on." in page.words


def test_with_scripts_the_rows_come_one_by_one_and_are_those_of_the_whole_page(client, demo):
    whole = open_page(client, "/inside/lens", prompt=TEXT, half=1)
    part = parse(
        client.get(address("/inside/lens", prompt=TEXT, half=1), headers=HTMX).get_data(True)
    )
    body = part.id("lens-rows")
    assert not body.all("tr") and body.attributes["hx-trigger"] == "load"
    response = client.get(body.attributes["hx-get"], headers=HTMX)
    assert response.mimetype == "text/event-stream"
    sent = messages(response.get_data(True).splitlines())
    rows = [row for partial in shown(sent).parts["lens-rows"] for row in partial.all("tr")]
    assert len(sent) == len(rows) == 2 * demo.hparams.n_layer + 1
    assert [row.words for row in rows] == [row.words for row in whole.id("lens-rows").all("tr")]


def test_a_row_is_computed_when_it_is_sent(app, demo, monkeypatch):
    from webapp.inside.instruments import lens as module

    computed = []
    monkeypatch.setattr(
        module, "early_logits", lambda x, params: computed.append(1) or early_logits(x, params)
    )
    with app.test_request_context("/inside/lens"):
        view = open_view(
            "instruments.lens_page", {}, demo, parsed(demo, {"prompt": TEXT}),
            app.extensions["recordings"],
        )  # fmt: skip
        rows = grid_rows(view, half=False, at_once=1)
        assert not computed
        next(rows)
        assert len(computed) == 1


@pytest.mark.parametrize("n_layer", [1, 12, 24, 25, 36, 48])
def test_embedding_and_answer_are_always_rows(n_layer):
    step = -(-n_layer // 24)
    found = states(n_layer, half=False, step=step)
    assert found[0].label == "embedding" and found[-1].is_answer
    assert found[-1].label == f"after layer {n_layer - 1}"
    assert len(found) <= 25


def test_the_page_of_many_layers_is_small_and_says_what_is_left_out(app, demo):
    with app.test_request_context("/inside/lens"):
        query = parsed(demo, {"prompt": text_of(demo, 64)})
        view = open_view("instruments.lens_page", {}, demo, query, app.extensions["recordings"])
        n = 48 // demo.hparams.n_layer
        deep = replace(
            view.recording,
            residual=view.recording.residual[:-1] * n + view.recording.residual[-1:],
            residual_mid=view.recording.residual_mid * n,
            patterns=view.recording.patterns * n,
        )
        view = replace(view, recording=deep)
        page = show(
            "inside/instruments/lens.html",
            view,
            found=page_of(view, half=True),
            rows=list(grid_rows(view, half=True)),
            half=True,
            chooses_layer=False,
            chooses_head=False,
        )
    assert len(page.encode()) <= MAX_BYTES
    document = parse(page)
    assert "One layer in 2 is drawn, and the last" in document.words
    assert len(document.id("lens-rows").all("tr")) == 49


def test_the_link_to_a_view_is_that_view(client):
    page = open_page(client, "/inside/lens", prompt=TEXT, at=5, half=1)
    again = parse(client.get(page.id("inside").attributes["data-link"]).get_data(as_text=True))
    assert page.words == again.words


def test_a_field_that_does_not_fit_is_refused_with_a_sentence(client):
    response = client.get(address("/inside/lens", prompt=TEXT, half="x"))
    assert response.status_code == 422
    errors = parse(response.get_data(as_text=True)).all("p", "error")
    assert any("must be one of 0, 1" in error.words for error in errors)


@pytest.mark.parametrize("n_tokens", SIZES)
def test_a_page_of_any_length_is_small(client, demo, n_tokens):
    response = client.get(address("/inside/lens", prompt=text_of(demo, n_tokens), half=1))
    assert response.status_code == 200 and len(response.data) <= MAX_BYTES
    assert b"style=" not in response.data and b"data:" not in response.data


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_tokens_are_labels_as_they_are_chips(client, text):
    page = open_page(client, "/inside/lens", prompt=text)
    (strip,) = page.all("ol", "inside-strip")
    (head,) = page.all("table", "inside-lens")[0].all("thead")
    pieces = [piece.text for piece in head.all(class_="piece")]
    assert pieces == [piece.text for piece in strip.all(class_="piece")][-12:]


def rows_of_file(client, path, **fields):
    response = client.get(address(path, prompt=TEXT, **fields))
    assert response.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))


def test_the_file_of_the_grid_has_every_state_of_every_column(client, demo):
    rows = rows_of_file(client, "/inside/lens.csv")
    found = lens_grid(recorded(demo, TEXT), range(8))
    whole = [row for row in rows if "added" not in row["state"]]
    assert len(rows) == (2 * demo.hparams.n_layer + 1) * 8 and len(whole) == found.ids.size
    assert [int(row["next_id"]) for row in whole] == found.ids.ravel().tolist()
    probabilities = [float(row["probability"]) for row in whole]
    assert np.allclose(probabilities, found.probabilities.ravel(), rtol=1e-4)


def test_the_file_of_the_ranks_has_every_leader_in_every_state(client, demo):
    rows = rows_of_file(client, "/inside/lens/ranks.csv")
    logits = lens(recorded(demo, TEXT), 7)
    for row in rows:
        n = [s.label for s in states(demo.hparams.n_layer, half=False, step=1)].index(row["state"])
        id = int(row["id"])
        assert int(row["rank"]) == ranks(logits, [id])[n, 0]
        assert float(row["probability"]) == pytest.approx(
            np.exp(log_softmax(logits[n]))[id], rel=1e-4
        )
    assert len(rows) == (demo.hparams.n_layer + 1) * len({int(row.argmax()) for row in logits})
