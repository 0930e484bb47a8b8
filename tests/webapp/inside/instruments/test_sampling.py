"""/inside/sampling: one draw, from all tokens to one; and the same draw by a generation."""

import csv
import io
import re

import numpy as np
import pytest

from gpt2core.inside.funnel import funnel
from gpt2core.sampling import SamplingParams
from tests.helpers.inside import (
    MAX_BYTES,
    ODD_TEXTS,
    SIZES,
    TEXT,
    address,
    body_rows,
    number_in,
    numbers_in,
    open_page,
    recorded,
    text_of,
)
from tests.helpers.web import JSON, parse

CUTS = {"temperature": 1.5, "top_k": 200, "top_p": 0.9, "seed": 11}
WAYS = (
    {},
    {"temperature": 1, "top_k": 0, "top_p": 1},
    {"temperature": 1.7, "top_k": 0, "top_p": 0.95},
    {"temperature": 0.6, "top_k": 5},
    {"temperature": 0},
)


def drawn(page) -> int:
    """The id that the page says is drawn."""
    return int(page.id("inside-drawn").text)


def expected(model, text=TEXT, **fields):
    given = {"temperature": 0.7, "top_k": 40, "top_p": 1.0, "seed": 0} | fields
    recording = recorded(model, text)
    return funnel(recording.last_logits, SamplingParams(**given), recording.n_tokens)


def contenders(page) -> list:
    """Rows of the table of sums: (place, token, probability, its log, noise, sum)."""
    rows = body_rows(page.all("table", "inside-contenders")[0])
    return [(row[0], row[1], *map(number_in, row[2:6])) for row in rows]


# Against generations


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_the_drawn_token_is_the_one_that_a_generation_draws(client, way):
    fields = {"prompt": TEXT} | WAYS[way]
    tokens = set()
    for seed in range(1000 * way, 1000 * way + 200):
        answer = client.post("/generate", json=fields | {"n_tokens": 1, "seed": seed}, headers=JSON)
        (token,) = [token["id"] for token in answer.json["tokens"]]
        page = client.get(address("/inside/sampling", **fields, seed=seed)).get_data(as_text=True)
        assert f'id="inside-drawn">{token}<' in page, seed
        tokens.add(token)
    assert len(tokens) > (WAYS[way] != {"temperature": 0})  # more than one, where it is chance


@pytest.mark.parametrize("way", [1, 2, 3])
def test_every_token_of_a_generation_is_drawn_at_its_own_place(server, way):
    fields = {"prompt": TEXT, "seed": way} | WAYS[way]
    tokens = server.generate_json(**fields, n_tokens=12)["tokens"]
    ids = [token["id"] for token in tokens]
    n_prompt = len(TEXT.split())
    kept = ",".join(map(str, ids))
    for i, id in enumerate(ids):
        # The text up to there, and the same place of the whole text.
        before = {"kept": ",".join(map(str, ids[:i]))}
        for place in (before, {"kept": kept, "at": n_prompt + i}):
            path = address("/inside/sampling", **fields, **place)
            with server.request("GET", path) as response:
                assert drawn(parse(response.read().decode())) == id


def test_taking_the_token_leads_to_the_next_draw_of_the_same_seed(client):
    fields = {"prompt": TEXT, "seed": 5, "temperature": 1.1}
    answer = client.post("/generate", json=fields | {"n_tokens": 5}, headers=JSON)
    page, ids = open_page(client, "/inside/sampling", **fields), []
    for _ in range(5):
        ids.append(drawn(page))
        (further,) = [a for a in page.all("a") if a.words.startswith("Let the model go on")]
        assert "seed=5" in further.attributes["href"]
        (link,) = [a for a in page.all("a") if a.words.startswith("Take this token")]
        page = parse(client.get(link.attributes["href"]).get_data(as_text=True))
    assert ids == [token["id"] for token in answer.json["tokens"]]


def test_the_link_to_a_generation_has_this_text_and_seed(client):
    page = open_page(client, "/inside/sampling", prompt=TEXT, **CUTS)
    (link,) = [a for a in page.all("a") if a.words.startswith("Let the model go on")]
    form = parse(client.get(link.attributes["href"]).get_data(as_text=True))
    values = {e.attributes.get("name"): e.attributes.get("value") for e in form.all("input")}
    assert {name: values[name] for name in CUTS} == {k: str(v) for k, v in CUTS.items()}
    assert form.id("prompt").text.strip() == TEXT


# Numbers


def test_the_funnel_is_the_cores(client, demo):
    found = expected(demo, **CUTS)
    page = open_page(client, "/inside/sampling", prompt=TEXT, **CUTS)
    rows = page.all("table", "inside-funnel")[0].all("tbody")[0].all("tr")
    shown = [numbers_in(row.all("td", "number")) for row in rows]
    assert [n for n, _ in shown] == [step.n_kept for step in found.steps]
    assert np.allclose([s for _, s in shown], [step.share for step in found.steps], atol=6e-5)
    assert drawn(page) == found.token


def test_what_each_step_cuts_is_what_it_no_longer_has(client):
    page = open_page(client, "/inside/sampling", prompt=TEXT, **CUTS)
    rows = page.all("table", "inside-funnel")[0].all("tbody")[0].all("tr")
    left = [numbers_in(row.all("td", "number")) for row in rows]
    for before, after, row in zip(left[:-2], left[1:-1], rows[1:-1], strict=True):
        if before == after:
            assert not row.all(class_="inside-cut")
            continue
        n_cut, share = row.all(class_="inside-cut")[0].words.split(" cut, together ")
        assert number_in(n_cut) == before[0] - after[0]
        assert number_in(share) == pytest.approx(before[1] - after[1], abs=2e-4)


def test_the_tokens_that_are_left_add_up(client, demo):
    found = expected(demo, **CUTS)
    page = open_page(client, "/inside/sampling", prompt=TEXT, **CUTS)
    *named, others = body_rows(page.all("table", "inside-table")[-1])
    for i, (piece, own, probability) in enumerate(named):
        assert piece.split()[0] == demo.encoder.decoder[found.ids[i]]
        shown = [number_in(own), number_in(probability)]
        assert np.allclose(shown, [found.before[i], found.probabilities[i]], atol=6e-5)
    assert others[0] == f"{len(found.ids) - len(named)} others together"
    total = sum(number_in(row[2]) for row in [*named, others])
    assert total == pytest.approx(1, abs=len(named) * 6e-5)


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_shown_sums_are_log_probability_and_noise_and_the_largest_is_drawn(client, demo, way):
    found = expected(demo, **WAYS[way])
    page = open_page(client, "/inside/sampling", prompt=TEXT, **WAYS[way])
    rows = contenders(page)
    order = np.argsort(-found.sums)
    for place, piece, probability, log_probability, noise, total in rows:
        i = order[int(number_in(place)) - 1]
        assert piece.split()[0] == demo.encoder.decoder[found.ids[i]]
        assert probability == pytest.approx(found.probabilities[i], rel=6e-4)
        assert log_probability == pytest.approx(np.log(float(found.probabilities[i])), abs=6e-5)
        assert noise == pytest.approx(found.noise[i], abs=6e-5)
        assert log_probability + noise == pytest.approx(total, abs=2e-4)
    places = [number_in(place) for place, *_ in rows]
    assert places[:8] == list(range(1, min(8, len(found.ids)) + 1))
    assert {found.ids[i] for i in np.argsort(-found.probabilities)[:4]} <= {
        found.ids[order[int(place) - 1]] for place in places
    }
    (chosen,) = page.all("tr", class_="chosen")
    assert chosen.all("td")[0].text == "1" and demo.encoder.decoder[drawn(page)] in chosen.words


def test_the_sentence_has_the_drawn_tokens_numbers(client):
    for seed in range(20):
        page = open_page(client, "/inside/sampling", prompt=TEXT, seed=seed, temperature=1.3)
        first, second, *_ = contenders(page)
        shown = numbers_in(page.all("p", "inside-equation")[0].all("b", "number"))
        log_probability, noise, total, lead = shown
        assert [log_probability, noise, total] == list(first[3:])
        assert lead == pytest.approx(first[5] - second[5], abs=2e-4)


def test_the_drawn_tokens_probability_is_its_share_of_what_is_left(client, demo):
    page = open_page(client, "/inside/sampling", prompt=TEXT, **CUTS)
    (division,) = page.all("span", "inside-division")
    drawn_share, left, probability = map(float, re.split(" ÷ | = ", division.text))
    # The temperature's distribution over the whole vocabulary, written anew.
    logits = recorded(demo, TEXT).last_logits.astype(np.float64) / CUTS["temperature"]
    warm = np.exp(logits - logits.max())
    warm /= warm.sum()
    kept = np.argsort(-warm)[: int(number_in(page_left(page)))]
    assert drawn_share == pytest.approx(warm[drawn(page)], abs=6e-5)
    assert left == pytest.approx(warm[kept].sum(), abs=6e-5)
    assert probability == pytest.approx(warm[drawn(page)] / warm[kept].sum(), abs=6e-5)


def page_left(page) -> str:
    """The number of tokens after all cuts: the funnel's last row but one."""
    return page.all("table", "inside-funnel")[0].all("tr")[-2].all("td")[0].text


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_pictures_go_from_the_log_probability_to_the_sum_on_one_scale(client, way):
    page = open_page(client, "/inside/sampling", prompt=TEXT, **WAYS[way])
    rows = contenders(page)
    low, high = min(min(row[3], row[5]) for row in rows), max(max(row[3], row[5]) for row in rows)
    pictures = page.all("svg", "inside-lift")
    for (*_, log_probability, noise, total), picture in zip(rows, pictures, strict=True):
        (bar,) = picture.all("rect")
        start, end = ((v - low) / (high - low) * 1000 for v in (log_probability, total))
        assert float(bar.attributes["x"]) == pytest.approx(min(start, end), abs=0.3)
        assert float(bar.attributes["width"]) == pytest.approx(abs(end - start), abs=0.3)
        assert bar.attributes["class"] == ("above" if noise > 0 else "below")


def test_at_temperature_0_the_likeliest_is_left_alone(client, demo):
    page = open_page(client, "/inside/sampling", prompt=TEXT, temperature=0)
    assert drawn(page) == int(recorded(demo, TEXT).last_logits.argmax())
    assert "At temperature 0 only the likeliest token is left" in page.words
    assert len(contenders(page)) == 1


def test_the_next_seed_is_one_button_away_also_after_the_last(client):
    for seed, following in ((7, "8"), (2**32 - 1, "0")):
        page = open_page(client, "/inside/sampling", prompt=TEXT, seed=seed)
        (button,) = [b for b in page.all("button") if b.words == "Next seed"]
        assert button.attributes["value"] == following


# Addresses and sizes


def test_the_link_to_a_view_is_that_view(client):
    page = open_page(client, "/inside/sampling", prompt=TEXT, at=5, **CUTS)
    again = parse(client.get(page.id("inside").attributes["data-link"]).get_data(as_text=True))
    assert page.words == again.words


@pytest.mark.parametrize(
    "fields",
    [{"seed": 2**32}, {"seed": "x"}, {"top_p": 0}, {"top_k": "x"}, {"temperature": 6}],
)
def test_a_field_that_does_not_fit_is_refused_with_a_sentence(client, fields):
    response = client.get(address("/inside/sampling", prompt=TEXT, **fields))
    assert response.status_code == 422
    errors = parse(response.get_data(as_text=True)).all("p", "error")
    assert any(error.words.endswith(".") for error in errors)


@pytest.mark.parametrize("n_tokens", SIZES)
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_page_of_any_length_is_small(client, demo, n_tokens, way):
    fields = {"prompt": text_of(demo, n_tokens)} | WAYS[way]
    response = client.get(address("/inside/sampling", **fields))
    assert response.status_code == 200 and len(response.data) <= MAX_BYTES
    assert b"style=" not in response.data and b"data:" not in response.data


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_tokens_can_be_chosen_and_drawn_after(client, text):
    page = open_page(client, "/inside/sampling", prompt=text, temperature=5, top_k=0)
    last = page.all("ol", "inside-strip")[0].all(class_="piece")[-1].text
    assert page.all("p", "inside-lead")[0].all(class_="piece")[0].text == last


def test_the_file_has_every_token_that_could_be_drawn(client, demo):
    found = expected(demo, **CUTS)
    response = client.get(address("/inside/sampling.csv", prompt=TEXT, **CUTS))
    rows = list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))
    assert [int(row["id"]) for row in rows] == found.ids.tolist()
    for name, values in (
        ("own_probability", found.before),
        ("probability", found.probabilities),
        ("log_probability", found.log_probabilities),
        ("noise", found.noise),
        ("sum", found.sums),
    ):
        assert np.allclose([float(row[name]) for row in rows], values, rtol=1e-5, atol=1e-7)
    assert [int(row["id"]) for row in rows if row["drawn"] == "1"] == [found.token]
