"""GET /inside/neurons and /inside/neighbours: numbers and tokens are those of the arrays."""

import numpy as np
import pytest

from gpt2core import model
from gpt2core.inside.attribution import by_neuron, logit_direction
from gpt2core.inside.recording import replay_block
from gpt2core.inside.vocabulary import cosines, tokens_read, tokens_written
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    SIZES,
    TEXT,
    address,
    body_rows,
    number_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import parse

NEURONS, NEIGHBOURS = "/inside/neurons", "/inside/neighbours"


def close(text: str, value: float) -> bool:
    return number_in(text) == pytest.approx(float(value), rel=6e-3, abs=6e-4)


def test_the_strongest_ten_and_what_they_read_and_write(client, demo):
    layer, p = 2, 4
    recording = recorded(demo, TEXT)
    block = replay_block(recording, layer)
    a = block.array("ffn.a")[p]
    adds = np.abs(a) * np.linalg.norm(demo.params["blocks"][layer]["mlp"]["c_proj"]["w"], axis=1)
    direction = logit_direction(recording, p, 262)
    shares = by_neuron(recording, block, p, direction).values
    page = open_page(client, NEURONS, prompt=TEXT, layer=layer, at=p + 1, for_=262)
    (table,) = page.all("table", "inside-neurons")
    rows = body_rows(table)
    found = [int(row[0]) for row in rows]
    assert found == np.argsort(-adds, kind="stable")[:10].tolist()
    read = tokens_read(demo.params, layer, found)
    written = tokens_written(demo.params, layer, found)
    piece = demo.encoder.decoder.__getitem__
    for column, (index, row) in enumerate(zip(found, table.all("tbody")[0].all("tr"), strict=True)):
        cells = [cell for cell in row if cell.tag == "td"]
        assert close(cells[0].text, a[index])
        assert close(cells[1].text, adds[index])
        assert number_in(cells[2].text) == pytest.approx(shares[index], abs=6e-4)
        for cell, values in zip(
            cells[3:], (read[:, column], written[:, column], -written[:, column]), strict=True
        ):
            shown = [element.text for element in cell.all(class_="piece")]
            assert shown == [piece(int(id)) for id in np.argsort(-values, kind="stable")[:5]]


def test_a_chosen_neurons_terms_add_up_to_its_input_and_gelu_gives_its_activation(client, demo):
    layer, index = 1, 17
    page = open_page(client, NEURONS, prompt=TEXT, layer=layer, neuron=index)
    block = replay_block(recorded(demo, TEXT), layer)
    before = block.array("ffn.linear.return")[-1, index]
    (table,) = [t for t in page.all("table", "inside-table") if "bias" in t.words]
    terms = [number_in(row[-1]) for row in body_rows(table)]
    assert len(terms) == 12  # ten, all others, and the bias
    rounding = 1e-3 * sum(map(abs, terms))  # of four digits each
    assert sum(terms) == pytest.approx(before, abs=rounding)
    (total,) = [cell.text for cell in table.all("tfoot")[0] if cell.tag == "td"]
    assert close(total, before)
    assert close(page.id("activation").text, model.gelu(before))
    (check,) = page.all("ul", "inside-checks")
    assert check.all(class_="holds")
    (dot,) = page.all("circle")
    edge = max(4, int(np.ceil(abs(before))))
    assert float(dot.attributes["cx"]) == pytest.approx(160 * (1 + before / edge), abs=0.1)


def test_the_histogram_counts_every_neuron(client, demo):
    page = open_page(client, NEURONS, prompt=TEXT, layer=3, at=2)
    (table,) = page.all("table", "inside-bins")
    rows = [[number_in(cell) for cell in row] for row in body_rows(table)]
    a = replay_block(recorded(demo, TEXT), 3).array("ffn.a")[1]
    assert sum(n for _, _, n in rows) == len(a) == 4 * demo.hparams.n_embd
    assert rows[0][0] == pytest.approx(a.min(), rel=6e-4)
    assert rows[-1][1] == pytest.approx(a.max(), rel=6e-4)
    assert f"{(a > 0.1).sum()} of {len(a)} give more than 0.1." in page.words


def test_neighbours_of_a_token_and_of_a_state(client, demo):
    recording, layer, p = recorded(demo, TEXT), 3, 5
    id = demo.encoder.encode(" dog")[0]
    fields = {"prompt": TEXT, "at": p + 1, "layer": layer}
    page = open_page(client, NEIGHBOURS, **fields, id=" dog")
    wte = demo.params["wte"]
    of_token, of_state = page.all("table", "inside-compared")
    for table, vector, without in (
        (of_token, wte[id], id),
        (of_state, recording.residual[layer + 1][p], None),
    ):
        found = cosines(vector, wte)
        order = [int(i) for i in np.argsort(-found, kind="stable") if i != without][:12]
        assert [int(button.attributes["value"]) for button in table.all("button")] == order
        shown = [number_in(row[-1]) for row in body_rows(table)]
        assert shown == pytest.approx(found[order], abs=6e-4)
    assert open_page(client, NEIGHBOURS, **fields, id=id).words == page.words
    own = open_page(client, NEIGHBOURS, **fields)
    assert own.all("h2")[0].words.startswith(f"Near {demo.encoder.decoder[recording.ids[p]]}")


@pytest.mark.parametrize("path", [NEURONS, NEIGHBOURS])
@pytest.mark.parametrize("text", [*SIZES, *ODD_TEXTS])
def test_every_view_is_small_and_keeps_the_policy(client, demo, path, text):
    text = text_of(demo, text) if isinstance(text, int) else text
    answer = client.get(address(path, prompt=text, layer=1))
    assert answer.status_code == 200 and len(answer.data) <= MAX_BYTES
    assert "style=" not in answer.text and "data:" not in answer.text
    page = parse(answer.text)
    (link,) = page.all("a", rel="bookmark")
    assert parse(client.get(link.attributes["href"]).text).words == page.words


@pytest.mark.parametrize(
    ("path", "field", "value", "part"),
    [
        (NEURONS, "neuron", 768, "0 to 767"),
        (NEURONS, "neuron", "x", "must be a whole number"),
        (NEIGHBOURS, "id", 50257, "0 to 50256"),
        (NEIGHBOURS, "id", "two words", "is 2 tokens"),
    ],
)
def test_a_bad_field_has_its_message_beside_it(client, path, field, value, part):
    answer = client.get(address(path, prompt=TEXT, **{field: value}))
    assert answer.status_code == 422
    page = parse(answer.text)
    control = page.id(f"mend-{field}")
    assert part in page.id(control.attributes["aria-describedby"]).words
    (form,) = page.all("form", "inside-mend")
    assert form.attributes["action"] == path


def test_a_neuron_leads_to_its_removal(client):
    page = open_page(client, NEURONS, prompt=TEXT, layer=2, neuron=5)
    (link,) = [a for a in page.all("a") if a.words == "Turn this neuron off"]
    assert link.attributes["href"] == address("/inside/ablate", prompt=TEXT, parts="2.mlp.5")
