"""The inside views of a model with as many layers and heads as 1558M: small, nothing silent."""

import numpy as np
import pytest

from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.heads import head_shares
from gpt2core.store.loader import load_model
from tests.helpers.inside import (
    MAX_BYTES,
    TEXT,
    address,
    body_rows,
    number_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import parse, write_small_model
from tests.helpers.webapp_fixtures import loaded_app

LARGEST = MODEL_SIZES["1558M"]
SHAPE = HParams(n_ctx=300, n_embd=50, n_head=LARGEST.n_head, n_layer=LARGEST.n_layer)
DRAWN = [*range(0, 48, 2), 47]
VIEWS = {
    "": {},
    "/9": {"layer": 3},
    "/14": {},
    "/heads": {"measure": "first"},
    "/lens": {"half": 1},
    "/attribution": {"part": "40.attn"},
    "/neurons": {"layer": 40, "neuron": 3},
    "/neighbours": {"layer": 40},
    "/ablate": {"parts": "5.7,47.mlp", "n_tokens": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_small_model(folder / "deep", SHAPE)
    return folder


@pytest.fixture(scope="module")
def deep(folder):
    return load_model("deep", folder)


@pytest.fixture(scope="module")
def client(folder):
    return loaded_app(model="deep", models_dir=str(folder)).test_client()


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_is_large(client, deep, view):
    for n_tokens in (1, 2, 12, 64):
        fields = {"prompt": text_of(deep, n_tokens), **VIEWS[view]}
        answer = client.get(address(f"/inside{view}", **fields))
        assert answer.status_code == 200 and len(answer.data) <= MAX_BYTES
        assert "style=" not in answer.text and "data:" not in answer.text
        parse(answer.text)


def test_heads_are_drawn_in_steps_of_layers_with_the_chosen_one(client, deep):
    page = open_page(client, "/inside/heads", prompt=TEXT, layer=5, head=2)
    (table,) = page.all("table", "inside-heads")
    rows = body_rows(table)
    assert [int(row[0]) for row in rows] == sorted([*DRAWN, 5])
    assert "One layer in 2 is drawn, with the first, the last and the chosen one" in page.words
    assert "22 are left out" in page.words
    recording = recorded(deep, TEXT)
    token = int(recording.last_logits.argmax())
    shares = head_shares(recording, 7, logit_direction(recording, 7, token))  # [n_layer, n_head]
    for layer, *cells in rows:
        assert [number_in(cell) for cell in cells] == pytest.approx(shares[int(layer)], abs=6e-4)
    layer, head = np.unravel_index(np.abs(shares).argmax(), shares.shape)
    assert f"Largest: layer {layer}, head {head}," in page.words
    (choice,) = page.all("select", name="layer")
    assert len(choice.all("option")) == 48


def test_a_grid_of_states_is_drawn_in_steps_of_layers(client):
    fields = {"prompt": TEXT, "other": TEXT.replace("cat", "dog"), "at": 3}
    answer = client.get(address("/inside/patch", **fields))
    assert answer.status_code == 200 and len(answer.data) <= MAX_BYTES
    page = parse(answer.text)
    (table,) = page.all("table", "inside-heads")
    assert [int(row[0]) for row in body_rows(table)] == DRAWN
    assert "Drawn are 25 of 48 layers" in page.words
