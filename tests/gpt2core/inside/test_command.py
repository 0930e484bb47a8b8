"""``python -m gpt2core inside`` on the bundled model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from gpt2core import model
from gpt2core.cli import main
from gpt2core.inside.interventions import mean_outputs, parse_components, without
from gpt2core.inside.recording import record_pass
from gpt2core.tokenizer.decoding import token_spans
from tests.helpers.paths import ROOT

TEXT = "The cat sat on the mat because it"


@pytest.fixture
def inside(capsys):
    """Run the command; its status, output and error output."""

    def run(*args: str) -> tuple[int, str, str]:
        status = main(["inside", *args])
        return status, *capsys.readouterr()

    return run


def test_it_tells_the_answer_of_the_model(inside, demo):
    status, out, err = inside(TEXT, "--json")
    made = json.loads(out)
    logits = model.gpt2(demo.encoder.encode(TEXT), **demo.params, n_head=demo.hparams.n_head)
    assert (status, err) == (0, "")
    assert made["model"] == demo.name
    assert made["top"][0]["id"] == logits[-1].argmax()
    assert made["top"][0]["piece"] == demo.encoder.decoder[made["top"][0]["id"]]


def test_tokens_are_those_of_the_text(inside, demo):
    text = "naïve 🤖"
    tokens = json.loads(inside(text, "--json")[1])["tokens"]
    ids = demo.encoder.encode(text)
    assert [token["id"] for token in tokens] == ids
    assert bytes.fromhex("".join(token["bytes"] for token in tokens)).decode() == text
    spans = token_spans(text, [demo.encoder.token_bytes(id) for id in ids])
    assert [(token["start"], token["end"]) for token in tokens] == spans


@pytest.mark.parametrize("options", [[], ["--special_tokens"], ["--no-special_tokens"]])
def test_special_tokens_are_read_as_they_are_by_tokenize(inside, demo, options):
    text = "Hi there<|endoftext|>"
    asked = {"--special_tokens": True, "--no-special_tokens": False}.get("".join(options))
    tokens = json.loads(inside(text, "--json", *options)[1])["tokens"]
    assert [token["id"] for token in tokens] == demo.encoder.encode(text, asked)


def test_options_choose_token_layer_head_and_logit(inside):
    made = json.loads(inside(TEXT, *"--at 3 --layer 1 --head 2 --for 7 --json".split())[1])
    assert made["at"] == 3
    assert (made["attention"]["layer"], made["attention"]["head"]) == (1, 2)
    assert made["attribution"]["for"] == 7


def test_without_json_it_prints_tables(inside):
    status, out, _ = inside(TEXT, "--at", "2")
    assert status == 0
    assert "Likeliest after token 2, Ġcat" in out
    assert "Attention of Ġcat, layer 5, head 0" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([""], "The text is empty: type at least one character."),
        ([TEXT, "--at", "9"], "Token is 9; it must be a whole number from 1 to 8."),
        ([TEXT, "--layer", "6"], "Layer is 6; it must be a whole number from 0 to 5."),
        ([TEXT, "--head", "-1"], "Head is -1; it must be a whole number from 0 to 2."),
        ([TEXT, "--ablate", "6.0"], "6.0 has layer 6; it must be from 0 to 5."),
        ([TEXT, "--for", "50257"], "Token id is 50257; it must be a whole number from 0 to 50256."),
        (["word " * 300], "The text is 301 tokens long; the inside view takes 256 at most."),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(inside, args, message):
    status, out, err = inside(*args)
    assert (status, out) == (1, "")
    assert err.endswith(f"gpt2core: {message}\n")


ABLATE = "--ablate 3.1,2.mlp,4.mlp.7 --to mean --at 5 --for 262"


def test_before_and_after_an_ablation_are_those_of_edited_weights(inside, demo):
    made = json.loads(inside(TEXT, "--json", *ABLATE.split())[1])
    ids, n_head = demo.encoder.encode(TEXT), demo.hparams.n_head
    recording = record_pass(ids, demo.params, n_head)
    parts = parse_components("3.1,2.mlp,4.mlp.7", 6, n_head, 4 * demo.hparams.n_embd)
    edited = without(demo.params, n_head, parts, mean_outputs(recording, parts))
    before, after = (
        model.gpt2(ids, **params, n_head=n_head)[4] for params in (demo.params, edited)
    )
    assert (made["ablated"], made["to"]) == (["2.mlp", "3.1", "4.mlp.7"], "mean")
    assert made["n_vocab"] == len(before) == 50_257
    assert 50_200 <= made["n_changed"] <= 50_257  # a few may agree by chance
    assert made["for"]["id"] == 262
    assert {before.argmax(), after.argmax()} <= {row["id"] for row in made["candidates"]}
    for row in [made["for"], *made["candidates"]]:
        assert row["piece"] == demo.encoder.decoder[row["id"]]
        assert row["before"]["logit"] == pytest.approx(before[row["id"]], abs=1e-4)
        assert row["after"]["logit"] == pytest.approx(after[row["id"]], abs=1e-4)


def test_an_ablation_is_printed_as_one_table(inside):
    status, out, _ = inside(TEXT, *ABLATE.split())
    first, second, *rows = out.splitlines()
    assert status == 0
    assert first.startswith("Without 2.mlp, 3.1, 4.mlp.7 (set to mean), after token 5, Ġthe: ")
    assert second.endswith(" of 50,257 logits changed.")
    assert rows[0].split() == ["token", "logit", "without", "probability", "without"]
    assert len(rows) > 10


@pytest.fixture(scope="module")
def examples():
    """The examples of docs/inside.md."""
    text = (ROOT / "docs" / "inside.md").read_text("utf-8")
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def test_the_example_in_the_documentation_runs(capsys, examples):
    example = examples[0]
    names = {}
    exec(example, names)
    assert names["found"].total == pytest.approx(names["found"].logit, abs=1e-4)
    assert "blocks[1].mha.attention.scores" in capsys.readouterr().out


def test_the_example_of_a_recorded_call_runs(examples):
    names: dict = {}
    exec(examples[1], names)
    model_, ids, weights = names["model"], names["ids"], names["weights"]
    h = model_.hparams
    assert weights.shape == (h.n_head, len(ids), len(ids))
    recording = record_pass(ids, model_.params, h.n_head)
    assert np.array_equal(weights, recording.patterns[3])
    assert names["logits"][-1] == pytest.approx(recording.last_logits, abs=1e-4)
    line = Path(model.__file__).read_text("utf-8").splitlines()[names["line"] - 1]
    assert line.strip().startswith("weights = ")


NAMES = ["record", "record_pass", "replay_block", "attribution", "lens"]
NAMES += ["without", "go_on", "carried", "ablate"]


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_has_an_example_of(examples, name):
    assert re.search(rf"\b{name}\(", "\n".join(examples))


def test_the_example_of_interventions_runs(examples):
    names: dict = {}
    exec(examples[2], names)
    recording, edited, found = names["recording"], names["edited"], names["found"]
    ids, n_head = list(recording.ids), recording.n_head
    assert found.after == pytest.approx(model.gpt2(ids, **edited, n_head=n_head)[-1], abs=1e-4)
    assert (names["logits"].argmax(), names["changed"]) == (names["token"], found.n_changed)
