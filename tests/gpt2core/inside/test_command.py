"""``python -m gpt2core inside`` on the bundled model."""

import json

import pytest

from gpt2core import model
from gpt2core.cli import main
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
        ([TEXT, "--for", "50257"], "Token id is 50257; it must be a whole number from 0 to 50256."),
        (["word " * 300], "The text is 301 tokens long; the inside view takes 256 at most."),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(inside, args, message):
    status, out, err = inside(*args)
    assert (status, out) == (1, "")
    assert err.endswith(f"gpt2core: {message}\n")


def test_the_example_in_the_documentation_runs(capsys):
    example = (
        (ROOT / "docs" / "inside.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    )
    names = {}
    exec(example, names)
    assert names["found"].total == pytest.approx(names["found"].logit, abs=1e-4)
    assert "blocks[1].mha.attention.scores" in capsys.readouterr().out
