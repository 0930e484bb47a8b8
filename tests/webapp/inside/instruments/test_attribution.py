"""/inside/attribution: one logit as a sum, opened level by level; numbers read back."""

import csv
import io

import numpy as np
import pytest

from gpt2core.inside.attribution import (
    attribution,
    by_head,
    by_neuron,
    by_source,
    logit_direction,
)
from gpt2core.inside.recording import replay_block
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    SIZES,
    TEXT,
    address,
    number_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import parse

HALF = 0.00005 * 1.01  # of the last of four places
ATTENTION, MLP = "1.attn.2", "2.mlp"


@pytest.fixture
def tokens(demo):
    """The two likeliest next tokens of TEXT."""
    order = np.argsort(-recorded(demo, TEXT).last_logits, kind="stable")
    return int(order[0]), int(order[1])


def ledgers(page):
    """(lines, sum) of each table; a line is (name, share)."""
    found = []
    for table in page.all("table", "inside-ledger"):
        (body,) = table.all("tbody")
        lines = [
            (row.all("th")[0].words, number_in(row.all("td", "number")[0].text))
            for row in body.all("tr")
        ]
        (foot,) = table.all("tfoot")
        found.append((lines, number_in(foot.all("td")[0].text)))
    return found


@pytest.mark.parametrize("compared", [False, True])
def test_the_parts_are_the_recordings_and_add_up_to_the_logit(client, demo, tokens, compared):
    token, other = tokens
    against = other if compared else None
    found = attribution(recorded(demo, TEXT), 7, token, against)
    fields = {"for_": token} | ({"against": other} if compared else {})
    page = open_page(client, "/inside/attribution", prompt=TEXT, **fields)
    lines, total = ledgers(page)[0]
    assert np.allclose([share for _, share in lines], [p.value for p in found.parts], atol=HALF)
    names = [name.split()[-1] for name, _ in lines]
    assert names == [part.name for part in found.parts]
    assert total == pytest.approx(found.logit, abs=2 * HALF)
    assert sum(share for _, share in lines) == pytest.approx(total, abs=len(lines) * HALF)


def test_the_logit_is_the_one_on_the_page_of_the_draw(client, tokens):
    page = open_page(client, "/inside/attribution", prompt=TEXT)
    drawn = open_page(client, "/inside/16", prompt=TEXT)
    table = drawn.all("table", "inside-table")[-1]
    first = table.all("tbody")[0].all("tr")[0].all("td")
    assert int(first[0].text) == tokens[0]
    (equation,) = page.all("p", "inside-equation")
    assert number_in(equation.all("b")[0].text) == pytest.approx(
        number_in(first[1].text), abs=0.00051
    )


def test_why_one_token_rather_than_another_is_the_difference_of_both_sums(client, tokens):
    token, other = tokens
    one, two, both = (
        ledgers(open_page(client, "/inside/attribution", prompt=TEXT, part=ATTENTION, **fields))
        for fields in ({"for_": token}, {"for_": other}, {"for_": token, "against": other})
    )
    assert len(both) == 3
    for (lines, total), (others, other_total), (differences, difference) in zip(
        one, two, both, strict=True
    ):
        assert difference == pytest.approx(total - other_total, abs=3 * HALF)
        for (name, a), (_, b), (same, share) in zip(lines, others, differences, strict=True):
            assert name == same and share == pytest.approx(a - b, abs=3 * HALF)


def test_the_sums_of_a_difference_hold_in_an_mlp_too(client, tokens):
    fields = {"for_": tokens[0], "against": tokens[1], "part": MLP}
    page = open_page(client, "/inside/attribution", prompt=TEXT, **fields)
    assert len(page.all("li", "holds")) == 2 and not page.all("li", "fails")


def test_an_opened_attention_adds_up_head_by_head_and_token_by_token(client, demo, tokens):
    recording = recorded(demo, TEXT)
    direction = logit_direction(recording, 7, tokens[0])
    heads = by_head(recording, 1, 7, direction)
    sources = by_source(recording, replay_block(recording, 1), 2, 7, direction)
    page = open_page(client, "/inside/attribution", prompt=TEXT, part=ATTENTION)
    parts, (inner, inner_sum), (outer, outer_sum) = ledgers(page)
    shares = [share for _, share in inner]
    assert np.allclose(shares, [*heads.values, heads.bias], atol=HALF)
    assert np.allclose([share for _, share in outer], sources.values, atol=HALF)
    above = {name.split()[-1]: share for name, share in parts[0]}["1.attn"]
    assert inner_sum == pytest.approx(above, abs=1e-4)
    assert outer_sum == pytest.approx(shares[2], abs=1e-4)


def test_the_weights_beside_the_source_tokens_are_the_heads(client, demo):
    page = open_page(client, "/inside/attribution", prompt=TEXT, part=ATTENTION)
    (body,) = page.all("table", "inside-ledger")[2].all("tbody")
    shown = [number_in(row.all("td")[0].text) for row in body.all("tr")]
    assert np.allclose(shown, recorded(demo, TEXT).patterns[1][2, 7], atol=0.00051)


def test_an_opened_mlp_names_ten_neurons_and_what_the_others_add_together(client, demo, tokens):
    recording = recorded(demo, TEXT)
    direction = logit_direction(recording, 7, tokens[0])
    block = replay_block(recording, 2)
    split = by_neuron(recording, block, 7, direction)
    page = open_page(client, "/inside/attribution", prompt=TEXT, part=MLP)
    parts, (inner, total) = ledgers(page)
    largest = split.largest(10)
    assert [name for name, _ in inner] == [
        *(f"neuron {i} a[{i}]" for i in largest),
        "758 others together",
        "bias c_proj.b",
    ]
    shares = [*split.values[largest], split.others(largest), split.bias]
    assert np.allclose([share for _, share in inner], shares, atol=HALF)
    above = {name.split()[-1]: share for name, share in parts[0]}[MLP]
    assert total == pytest.approx(above, abs=1e-4)
    (body,) = page.all("table", "inside-ledger")[1].all("tbody")
    activations = [number_in(row.all("td")[0].text) for row in body.all("tr")[:10]]
    assert np.allclose(activations, block.array("ffn.a")[7, largest], atol=0.00051)


def test_every_sum_says_what_it_equals(client):
    page = open_page(client, "/inside/attribution", prompt=TEXT, part=ATTENTION)
    checks = [check.words for check in page.all("li", "holds")]
    assert len(checks) == 3 and not page.all("li", "fails")
    assert "the logit is" in checks[0] and "layer 1’s attention is" in checks[1]
    assert "head 2’s share is" in checks[2]


def test_the_divisor_is_that_of_this_run(client, demo):
    page = open_page(client, "/inside/attribution", prompt=TEXT, at=3)
    shown = page.all("section")[0].all("b", "number")[-1]
    assert number_in(shown.text) == pytest.approx(recorded(demo, TEXT).divisors[2], rel=1e-3)


def test_earlier_tokens_are_one_line_and_the_sum_still_holds(client, demo):
    text = text_of(demo, 256)
    page = open_page(client, "/inside/attribution", prompt=text, at=100, part="0.attn.0")
    lines, total = ledgers(page)[2]
    assert lines[0][0] == "… 36 earlier together" and len(lines) == 65
    assert sum(share for _, share in lines) == pytest.approx(total, abs=len(lines) * HALF)
    assert not page.all("li", "fails")


def test_without_a_choice_the_strongest_attention_and_its_strongest_head_are_open(client, demo):
    found = attribution(recorded(demo, TEXT), 7, int(recorded(demo, TEXT).last_logits.argmax()))
    strongest = max((p for p in found.parts if p.name.endswith("attn")), key=lambda p: abs(p.value))
    page = open_page(client, "/inside/attribution", prompt=TEXT)
    buttons = page.all("button", name="part")
    opened = [b.attributes["value"] for b in buttons if b.attributes.get("aria-current")]
    assert opened[0] == strongest.name and opened[1].startswith(f"{strongest.name}.")


def test_the_link_to_a_view_is_that_view(client, tokens):
    fields = dict(prompt=TEXT, at=5, for_=tokens[1], against=tokens[0], part=ATTENTION)
    page = open_page(client, "/inside/attribution", **fields)
    again = parse(client.get(page.id("inside").attributes["data-link"]).get_data(as_text=True))
    assert page.words == again.words


@pytest.mark.parametrize(
    "fields",
    [
        {"part": "wte"},
        {"part": "9.attn"},
        {"part": "1.attn.7"},
        {"part": "1.mlp.7"},
        {"for": "99999"},
        {"against": "-1"},
    ],
)
def test_a_field_that_does_not_fit_is_refused_with_a_sentence(client, fields):
    response = client.get(address("/inside/attribution", prompt=TEXT, **fields))
    assert response.status_code == 422
    errors = parse(response.get_data(as_text=True)).all("p", "error")
    assert any("must be" in error.words for error in errors)


@pytest.mark.parametrize("n_tokens", SIZES)
@pytest.mark.parametrize("part", [ATTENTION, MLP])
def test_a_page_of_any_length_is_small_and_its_sums_hold(client, demo, n_tokens, part):
    response = client.get(address("/inside/attribution", prompt=text_of(demo, n_tokens), part=part))
    assert response.status_code == 200 and len(response.data) <= MAX_BYTES
    assert b"style=" not in response.data and b"data:" not in response.data
    page = parse(response.get_data(as_text=True))
    assert page.all("li", "holds") and not page.all("li", "fails")


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_tokens_are_labels_as_they_are_chips(client, text):
    page = open_page(client, "/inside/attribution", prompt=text, part=ATTENTION)
    (strip,) = page.all("ol", "inside-strip")
    table = page.all("table", "inside-ledger")[2]
    pieces = [piece.text for piece in table.all(class_="piece")]
    assert pieces == [piece.text for piece in strip.all(class_="piece")]


@pytest.mark.parametrize("part", [ATTENTION, MLP])
def test_the_file_adds_up_at_every_level(client, demo, part):
    response = client.get(address("/inside/attribution.csv", prompt=TEXT, part=part))
    rows = list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))
    shares = {row["part"]: float(row["share"]) for row in rows}
    assert len(shares) == len(rows)

    def below(name: str, kind: str = "") -> float:
        return sum(v for k, v in shares.items() if k.rpartition(".")[0] == name + kind)

    assert shares["logit"] == pytest.approx(float(recorded(demo, TEXT).last_logits.max()), rel=1e-6)
    top = ["wte", "wpe", "bias", *(f"{n}.{kind}" for n in range(6) for kind in ("attn", "mlp"))]
    assert sum(shares[name] for name in top) == pytest.approx(shares["logit"], abs=1e-4)
    for layer in range(6):
        heads = below(f"{layer}.attn")
        assert heads == pytest.approx(shares[f"{layer}.attn"], abs=1e-4)
    if part == MLP:
        opened = below(MLP, ".neuron") + shares[f"{MLP}.bias"]
    else:
        opened = below(ATTENTION, ".token")
    assert opened == pytest.approx(shares[part], abs=1e-4)
