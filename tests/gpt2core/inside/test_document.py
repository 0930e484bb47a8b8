"""``/inside.json``'s document holds its contract, and its numbers are the recording's."""

import json
import math

import numpy as np
import pytest

from gpt2core import model
from gpt2core.errors import InputError
from gpt2core.inside.document import Selection, document, rounded, select
from gpt2core.inside.report import report
from tests.gpt2core.inside.conftest import N_TOKENS


def token_rows(recording) -> list[dict]:
    """Rows as ``/tokenize`` answers them; the small models have no vocabulary, so made up."""
    return [
        {"id": id, "piece": f"<{id}>", "bytes": f"{id:02x}", "start": i, "end": i + 1}
        for i, id in enumerate(recording.ids)
    ]


def document_of(recording, **chosen) -> dict:
    selection = select(recording, **chosen)
    made = document(recording, selection, "small", token_rows(recording), lambda id: f"<{id}>")
    return json.loads(json.dumps(made, allow_nan=False))


# The contract


def test_it_has_the_fields_of_the_contract(recording, small):
    made = document_of(recording)
    assert list(made) == [
        *("model", "n_layer", "n_head", "tokens", "at", "top", "lens", "attribution", "attention")
    ]
    assert (made["model"], made["at"]) == ("small", N_TOKENS)
    assert made["n_layer"] == small.hparams.n_layer and made["n_head"] == small.hparams.n_head
    assert made["tokens"] == [
        {"index": i, **row} for i, row in enumerate(token_rows(recording), start=1)
    ]


def test_top_has_the_ten_likeliest_tokens_after_the_chosen_one(recording):
    for at in (1, 4, N_TOKENS):
        logits = recording.logits(at - 1).astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        top = document_of(recording, at=at)["top"]
        assert len(top) == 10
        assert [entry["id"] for entry in top] == np.argsort(-logits, kind="stable")[:10].tolist()
        for entry in top:
            assert entry["piece"] == f"<{entry['id']}>"
            assert entry["logit"] == pytest.approx(logits[entry["id"]], rel=1e-6)
            assert entry["probability"] == pytest.approx(probabilities[entry["id"]], rel=1e-4)


def test_the_lens_goes_from_the_embedding_to_the_answer(recording):
    made = document_of(recording, at=4, token=7)
    lens, n_layer = made["lens"], recording.n_layer
    assert [entry["layer"] for entry in lens] == list(range(n_layer + 1))
    for entry, state in zip(lens, recording.residual, strict=True):
        row = model.unembed(state, recording.params["wte"], recording.params["ln_f"])[3]
        probabilities = model.softmax(row)
        assert entry["rank"] == 1 + (row > row[7]).sum()
        assert entry["probability"] == pytest.approx(probabilities[7], rel=1e-3)
        assert len(entry["top"]) == 10
        assert entry["top"][0]["id"] == row.argmax()
        assert entry["top"][0]["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
    answer = [{key: e[key] for key in ("id", "piece", "probability")} for e in made["top"]]
    assert lens[-1]["top"] == answer


@pytest.mark.parametrize("at", [1, 6, N_TOKENS])
def test_parts_add_up_to_the_logit(recording, at):
    for token in (None, 7):
        made = document_of(recording, at=at, token=token)["attribution"]
        assert made["for"] == (recording.logits(at - 1).argmax() if token is None else 7)
        assert made["logit"] == pytest.approx(recording.logits(at - 1)[made["for"]], rel=1e-6)
        total = math.fsum(part["value"] for part in made["parts"])
        assert total == pytest.approx(made["logit"], abs=1e-4)
        names = [part["part"] for part in made["parts"]]
        assert names[:3] == ["wte", "wpe", "0.attn"] and names[-1] == "bias"


def test_attention_has_a_row_a_token_with_the_weights_it_can_have(recording):
    layer, head = recording.n_layer - 1, recording.n_head - 1
    made = document_of(recording, layer=layer, head=head)["attention"]
    assert (made["layer"], made["head"]) == (layer, head)
    assert [len(row) for row in made["rows"]] == list(range(1, N_TOKENS + 1))
    for row, weights in zip(made["rows"], recording.patterns[layer][head], strict=True):
        assert sum(row) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(row, weights[: len(row)], rtol=1e-6)


def test_numbers_keep_the_digits_of_float32():
    for number in (1 / 3, 1.2345678e-12, -98765.43, 0.0):
        assert np.float32(rounded(np.float32(number))) == pytest.approx(number, rel=2e-7)
    assert len(str(rounded(1 / 3))) <= 9


# The selection


def test_by_default_it_is_the_last_token_the_last_layer_head_0_and_the_likeliest(recording):
    likeliest = int(recording.last_logits.argmax())
    expected = Selection(N_TOKENS, recording.n_layer - 1, 0, likeliest)
    assert select(recording) == expected
    assert expected.position == N_TOKENS - 1


def test_the_likeliest_is_that_of_the_chosen_token(recording):
    assert select(recording, at=2).token == recording.logits(1).argmax()


@pytest.mark.parametrize(
    ("chosen", "field", "minimum"),
    [
        ({"at": 0}, "at", 1),
        ({"at": N_TOKENS + 1}, "at", 1),
        ({"at": True}, "at", 1),
        ({"layer": -1}, "layer", 0),
        ({"layer": 99}, "layer", 0),
        ({"head": 99}, "head", 0),
        ({"head": 0.5}, "head", 0),
        ({"token": -1}, "for", 0),
        ({"token": 97}, "for", 0),
    ],
)
def test_what_is_not_there_cannot_be_chosen(recording, chosen, field, minimum):
    with pytest.raises(InputError, match="must be a whole number from") as caught:
        select(recording, **chosen)
    assert caught.value.field == field and caught.value.numbers["minimum"] == minimum


# In the terminal


def numbers_of(section: str) -> list[str]:
    return section.split("\n")[2:]


def test_the_report_shows_the_documents_numbers(recording):
    made = document_of(recording, at=6, token=7)
    answer, lens, attribution, row = report(made).split("\n\n")
    assert answer.startswith("Likeliest after token 6, <")
    for line, entry in zip(numbers_of(answer), made["top"], strict=True):
        piece, id, logit, chance, _ = line.split()
        assert (piece, int(id)) == (entry["piece"], entry["id"])
        assert float(logit) == pytest.approx(entry["logit"], abs=5.1e-5)
        assert float(chance) == pytest.approx(100 * entry["probability"], abs=5.1e-3)
    for line, entry in zip(numbers_of(lens), made["lens"], strict=True):
        assert entry["top"][0]["piece"] in line and f" {entry['rank']} " in line
    assert numbers_of(lens)[-1].split()[:2] == ["the", "answer"]
    shares = dict(line.split() for line in numbers_of(attribution))
    for part in made["attribution"]["parts"]:
        assert float(shares[part["part"]]) == pytest.approx(part["value"], abs=5.1e-5)
    assert float(shares["sum"]) == pytest.approx(made["attribution"]["logit"], abs=2e-4)
    weights = [float(line.split()[2]) for line in numbers_of(row)]
    assert len(weights) == 6
    np.testing.assert_allclose(weights, made["attention"]["rows"][5], atol=5.1e-5)


def test_columns_of_the_report_stand_below_each_other(recording):
    for section in report(document_of(recording)).split("\n\n")[:3]:
        _, head, *lines = section.split("\n")
        assert {len(line) for line in lines} == {len(lines[0])}
        assert len(head) <= len(lines[0])
