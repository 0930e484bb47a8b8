"""GET /inside/ablate: edited weights give its numbers, and both texts are the engine's."""

import contextlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from gpt2core import model
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.inside.interventions import ablate, mean_outputs, parse_components, without
from gpt2core.sampling import log_softmax
from gpt2core.store.weights import save_params
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
from tests.helpers.small_models import SmallModel
from tests.helpers.web import HTMX, JSON, messages, parse, shown
from tests.helpers.webapp_fixtures import loaded_app
from webapp.inside.instruments import ablation

PATH = "/inside/ablate"
PARTS = "0.mlp,3.1"  # without the first MLP no model writes the same
CHANGED = re.compile(r"50,2\d\d of 50,257 logits changed\.")  # a few may agree by chance
MIXED = "0.attn,3.1,4.mlp.17"
GREEDY = {"temperature": 0, "n_tokens": 6}


def edited(demo, parts: str, to: str) -> dict:
    """The weights without ``parts``."""
    h = demo.hparams
    components = parse_components(parts, h.n_layer, h.n_head, 4 * h.n_embd)
    means = mean_outputs(recorded(demo, TEXT), components) if to == "mean" else None
    return without(demo.params, h.n_head, components, means)


def logits(demo, ids, params) -> np.ndarray:
    return model.gpt2(ids, **params, n_head=demo.hparams.n_head)


def stream(client, path: str, **fields):
    """The page after all messages of a stream."""
    answer = client.get(address(path, **fields))
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/event-stream"
    return shown(messages(answer.text.splitlines(keepends=True)))


def hparams_of(client) -> HParams:
    return client.application.extensions["model_server"].hparams


def written(page, side: str) -> str:
    return page.id(f"text-{side}").text


# The next token


@pytest.mark.parametrize("to", ["zero", "mean"])
def test_the_numbers_are_those_of_edited_weights_for_the_same_gpt2(client, demo, to):
    ids, at = demo.encoder.encode(TEXT), 5
    before = logits(demo, ids, demo.params)[at - 1]
    after = logits(demo, ids, edited(demo, MIXED, to))[at - 1]
    page = open_page(client, PATH, prompt=TEXT, parts=MIXED, to=to, at=at, for_=262, n_tokens=2)
    assert number_in(page.id("logit-before").text) == pytest.approx(before[262], abs=2e-4)
    assert number_in(page.id("logit-after").text) == pytest.approx(after[262], abs=2e-4)
    (table,) = page.all("table", "inside-compared")
    tokens = [int(button.attributes["value"]) for button in table.all("button")]
    assert {before.argmax(), after.argmax()} <= set(tokens)
    for id, (_, _, was, _, is_now, pair, change) in zip(tokens, body_rows(table), strict=True):
        assert number_in(was) == pytest.approx(np.exp(log_softmax(before)[id]), abs=6e-4)
        assert number_in(is_now) == pytest.approx(np.exp(log_softmax(after)[id]), abs=6e-4)
        both = [number_in(part) for part in pair.split("→")]
        assert both == pytest.approx([before[id], after[id]], abs=6e-3)
        assert number_in(change) == pytest.approx(after[id] - before[id], abs=6e-3)


def test_a_form_with_ticked_boxes_is_the_same_as_a_list_of_names(client):
    boxes = f"{PATH}?parts=3.1&parts=2.mlp&parts=4.mlp.17%2C+4.mlp.18&n_tokens=2&to=mean"
    ticked = parse(client.get(boxes).text)
    names = "2.mlp,3.1,4.mlp.17,4.mlp.18"
    assert ticked.words == open_page(client, PATH, parts=names, n_tokens=2, to="mean").words
    checked = [e for e in ticked.all("input") if "checked" in e.attributes]
    assert [box.attributes["value"] for box in checked] == ["2.mlp", "3.1"]
    assert ticked.id("off-neurons").attributes["value"] == "4.mlp.17, 4.mlp.18"
    (link,) = ticked.all("a", rel="bookmark")
    assert parse(client.get(link.attributes["href"]).text).words == ticked.words


def test_every_head_and_half_has_a_box_with_a_name(client, demo):
    page = open_page(client, PATH, prompt=TEXT)
    boxes = {
        b.attributes["value"]: b
        for b in page.all("input")
        if b.attributes.get("type") == "checkbox"
    }
    h = demo.hparams
    assert len(boxes) == h.n_layer * (h.n_head + 2)
    assert boxes["3.1"].attributes["aria-label"] == "layer 3, head 1"
    assert boxes["2.mlp"].attributes["aria-label"] == "layer 2, MLP"
    assert not page.all(class_="inside-compared")


@pytest.mark.parametrize("to", ["zero", "mean"])
def test_the_program_prints_the_same_two_numbers(client, demo, to):
    page = open_page(client, PATH, prompt=TEXT, parts=MIXED, to=to, at=6, n_tokens=2)
    program, output = (pre.text for pre in page.all("pre", "inside-program"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    made, promised = (
        [float(line) for line in text.split()] for text in (printed.getvalue(), output)
    )
    assert made == pytest.approx(promised, abs=2e-3) and len(made) == 2


def test_where_nothing_changes_the_page_says_so(tmp_path):
    hparams = HParams(n_vocab=50_257, n_ctx=32, n_embd=12, n_head=2, n_layer=2)
    params = SmallModel(hparams, 3, embedding=0.1, weight=0.1, bias=0.1, gain=0.1).params()
    params["blocks"][1]["attn"]["c_proj"]["w"][:6] = 0  # what head 0 adds
    (tmp_path / "quiet").mkdir()
    save_params(tmp_path / "quiet" / "model.safetensors", params)
    (tmp_path / "quiet" / "hparams.json").write_text(json.dumps(hparams.to_dict()))
    client = loaded_app(model="quiet", models_dir=str(tmp_path)).test_client()
    page = open_page(client, PATH, prompt="two words", parts="1.0")
    assert page.id("n-changed").words == "Nothing changed: 0 of 50,257 logits."
    said = page.id("inside-texts-said").words
    assert said == "Both texts are the same, token for token: all 30."  # as many as fit
    assert written(page, "whole") == written(page, "without") != ""
    other = open_page(client, PATH, prompt="two words", parts="1.1", n_tokens=2)
    assert CHANGED.fullmatch(other.id("n-changed").words)
    full = open_page(client, PATH, kept=",".join(["7"] * 32), parts="1.1")
    assert "The context of this model is full" in full.words


# Both texts


def test_the_text_without_is_that_of_edited_weights(client, demo):
    ids = demo.encoder.encode(TEXT)
    page = open_page(client, PATH, prompt=TEXT, parts=PARTS, **GREEDY)
    for side, params in (("whole", demo.params), ("without", edited(demo, PARTS, "zero"))):
        text = list(ids)
        for _ in range(GREEDY["n_tokens"]):
            text.append(int(logits(demo, text, params)[-1].argmax()))
        assert written(page, side) == demo.encoder.decode(text[len(ids) :])


def test_the_whole_models_text_is_the_one_that_generate_writes(client):
    fields = {"prompt": TEXT, "seed": 5, "temperature": 1.1, "n_tokens": 12}
    made = client.post("/generate", json=fields, headers=JSON).json
    page = open_page(client, PATH, parts=PARTS, **fields)
    assert TEXT + written(page, "whole") == TEXT + made["text"].removeprefix(TEXT)
    assert written(page, "without") != written(page, "whole")


def test_texts_without_chance_are_not_said_to_share_their_luck(client):
    for temperature, words in ((0, "Both always take the likeliest token"), (1, "The same seed")):
        page = open_page(
            client, PATH, prompt=TEXT, parts=PARTS, temperature=temperature, n_tokens=1
        )
        assert words in page.words


def test_texts_go_on_from_the_chosen_token(client, demo):
    page = open_page(client, PATH, prompt=TEXT, parts=PARTS, at=3, **GREEDY)
    short = open_page(client, PATH, prompt="The cat sat", parts=PARTS, **GREEDY)
    assert written(page, "whole") == written(short, "whole")
    assert [e.text for e in page.all("span", "inside-so-far")] == ["The cat sat"] * 2


def test_the_stream_writes_what_the_page_shows(client, demo):
    fields = {"prompt": TEXT, "parts": PARTS, "seed": 3, "n_tokens": 15}
    page = open_page(client, PATH, **fields)
    streamed = stream(client, f"{PATH}/texts", **fields)
    for side in ("whole", "without"):
        assert streamed.text(f"text-{side}") == written(page, side)
    sentence = streamed.words("inside-texts-said")
    assert sentence == page.id("inside-texts-said").words
    said = re.match(r"The texts part at token \d+: “(.+)” by the whole model, “(.+)” w", sentence)
    encoder = demo.encoder
    for side, piece in zip(("whole", "without"), said.groups(), strict=True):
        (mark,) = page.id(f"text-{side}").all("mark")
        assert mark.text == encoder.decode([encoder.encoder[piece]])


def test_htmx_gets_a_page_whose_texts_and_sweep_follow(client):
    path = address(PATH, prompt=TEXT, parts=PARTS, sweep=1, seed=3)
    part = parse(client.get(path, headers=HTMX).text)
    loads = [e.attributes["hx-get"] for e in part if e.attributes.get("hx-trigger") == "load"]
    fields = {"prompt": TEXT, "seed": 3, "parts": PARTS, "sweep": 1}
    assert loads == [
        address(f"{PATH}/{name}", **fields).replace("%2C", ",") for name in ("texts", "heads")
    ]
    assert not part.all(class_="inside-later") and not part.id("sweep-rows").all("tr")


@pytest.mark.parametrize("fields", [{"to": "mean"}, {"parts": "4.mlp.17"}])
def test_what_the_engine_cannot_leave_out_has_no_texts_and_says_why(client, fields):
    fields = {"prompt": TEXT, "parts": PARTS} | fields
    page = open_page(client, PATH, **fields)
    assert "no single neurons, and it knows no means" in page.words
    assert not page.all(class_="inside-two")
    assert client.get(address(f"{PATH}/texts", **fields)).status_code == 422


def test_a_reader_who_leaves_ends_both_generations(slow_server):
    fields = {"prompt": "Slow: one two three", "parts": PARTS, "n_tokens": 200}
    with slow_server.request("GET", address(f"{PATH}/texts", **fields)) as response:
        lines = iter(response.readline, b"")  # heartbeats may come first
        assert next(line for line in lines if line.startswith(b"data: <hx-partial"))
        slow_server.wait_for_load(2)
        response.close_connection()
    slow_server.wait_for_load(0)  # long before 200 tokens at 0.25 seconds each


@pytest.mark.parametrize("text", [*SIZES, *ODD_TEXTS])
def test_every_view_is_small_and_keeps_the_policy(client, demo, text):
    text = text_of(demo, text) if isinstance(text, int) else text
    answer = client.get(address(PATH, prompt=text, parts="0.mlp,3.1", n_tokens=2))
    assert answer.status_code == 200 and len(answer.data) <= MAX_BYTES
    assert "style=" not in answer.text and "data:" not in answer.text
    page = parse(answer.text)
    (link,) = page.all("a", rel="bookmark")
    assert parse(client.get(link.attributes["href"]).text).words == page.words


# The sweep


def test_the_sweep_removes_each_head_alone(client, demo):
    fields = {"prompt": TEXT, "to": "mean", "sweep": 1, "for_": 262}
    page = open_page(client, PATH, **fields)
    found, h = recorded(demo, TEXT), demo.hparams
    rows = body_rows(page.all("table", "inside-heads")[0])
    changes = {}
    for layer, row in enumerate(rows):
        for head, cell in enumerate(row[1:]):
            (part,) = parse_components(f"{layer}.{head}", h.n_layer, h.n_head, 1)
            alone = ablate(found, 7, [part], "mean")
            number, *answer = cell.split()
            changes[part.name] = number_in(number)
            assert changes[part.name] == pytest.approx(
                alone.after[262] - alone.before[262], abs=6e-4
            )
            best = demo.encoder.decoder[int(alone.after.argmax())]
            assert answer == ([best] if alone.after.argmax() != alone.before.argmax() else [])
    layer, head = max(changes, key=lambda name: abs(changes[name])).split(".")
    assert f"The most: layer {layer}, head {head}." in page.id("inside-sweep-said").words
    streamed = stream(client, f"{PATH}/heads", **fields)
    sent = [part.words.replace(" ", "") for part in streamed.parts["sweep-rows"]]
    assert sent == ["".join(row).replace(" ", "") for row in rows]
    assert streamed.words("inside-sweep-said") == page.id("inside-sweep-said").words


def test_a_sweep_stops_when_the_reader_leaves(client, monkeypatch, demo):
    calls = []
    monkeypatch.setattr(ablation, "ablate", lambda *a: calls.append(a) or ablate(*a))
    answer = client.get(address(f"{PATH}/heads", prompt=TEXT), buffered=False)
    assert b"sweep-rows" in next(answer.iter_encoded())
    answer.close()
    assert len(calls) == demo.hparams.n_head  # one row


def test_the_button_says_how_long_a_sweep_takes(client, demo):
    seconds = ablation.sweep_seconds(demo.hparams, 8)
    button = open_page(client, PATH, prompt=TEXT).id("sweep-run")
    assert button.words == f"Try all 18 heads, about {seconds:.1f} seconds"


def test_a_sweep_that_would_take_too_long_is_refused_with_both_numbers(client, monkeypatch):
    monkeypatch.setattr(ablation, "MAX_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(ablation, "FLOPS_PER_SECOND", 1e6)
    seconds = f"{round(ablation.sweep_seconds(hparams_of(client), 8)):,}"
    page = open_page(client, PATH, prompt=TEXT)
    assert not [e for e in page if e.attributes.get("id") == "sweep-run"]
    assert f"about {seconds} seconds; at most 0.01 are spent" in page.words
    for path in (PATH, f"{PATH}/heads"):
        refused = client.get(address(path, prompt=TEXT, sweep=1))
        assert refused.status_code == 422
        message = parse(refused.text).id("inside-error").words
        assert f"about {seconds} seconds" in message and "at most 0.01" in message


def test_reckoned_seconds_grow_with_model_and_text():
    small, large = MODEL_SIZES["124M"], MODEL_SIZES["1558M"]
    assert 1 < ablation.sweep_seconds(small, 8) < ablation.sweep_seconds(small, 64) < 40
    assert ablation.sweep_seconds(large, 64) > 1000
    deeper = replace(small, n_layer=24)
    assert ablation.sweep_seconds(deeper, 8) > 2 * ablation.sweep_seconds(small, 8)


# Refusals


@pytest.mark.parametrize(
    ("fields", "field", "parts"),
    [
        ({"parts": "3.1,6.0"}, "parts", ["6.0 has layer 6", "0 to 5"]),
        ({"parts": "3.mlp.768"}, "parts", ["neuron 768", "0 to 767"]),
        ({"parts": "3.1", "n_tokens": 201}, "n_tokens", ["201", "1 to 200"]),
        ({"parts": "3.1", "n_tokens": "x"}, "n_tokens", ["'x'"]),
    ],
)
def test_a_bad_field_has_its_message_beside_it_and_can_be_mended(client, fields, field, parts):
    answer = client.get(address(PATH, prompt=TEXT, **fields))
    assert answer.status_code == 422
    page = parse(answer.text)
    control = page.id(f"mend-{field}")
    assert control.attributes["value"] == str(fields[field])
    message = page.id(control.attributes["aria-describedby"]).words
    assert all(part in message for part in parts)
    (form,) = page.all("form", "inside-mend")
    assert form.attributes["action"] == PATH


def test_the_head_that_is_looked_at_leads_to_its_removal(client):
    page = open_page(client, "/inside/heads", prompt=TEXT, cell="3.1")
    (link,) = [a for a in page.all("a") if a.words == "Turn this head off"]
    assert link.attributes["href"] == address(PATH, prompt=TEXT, parts="3.1")
