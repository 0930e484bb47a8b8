"""POST /score: the numbers of the readable model, for texts of any length."""

import json
import math

import numpy as np
import pytest

from gpt2core import gpt2
from gpt2core.sampling import log_softmax
from gpt2core.scoring import windows
from gpt2core.serving import ModelServer
from tests.helpers.small_models import TOLERANCE
from tests.helpers.web import HTMX, JSON, ROBOT, STORY, STORY_PIECES, parse, textarea_value
from webapp.formatting import ordinal, percent
from webapp.surprise import figure


def score(client, prompt, **fields) -> dict:
    answer = client.post("/score", json={"prompt": prompt, **fields}, headers=JSON)
    assert answer.status_code == 200, answer.text
    return answer.json


def test_each_token_has_its_log_probability_rank_and_entropy(client, demo):
    text = f"{STORY} {ROBOT}"
    found, ids = score(client, text), demo.encoder.encode(text)
    assert [token["id"] for token in found["tokens"]] == ids
    assert found["n_tokens"] == len(ids) and found["model"] == "demo"
    first, *others = found["tokens"]
    assert [first[name] for name in ("logprob", "rank", "entropy")] == [None] * 3
    logits = gpt2(ids[:-1], **demo.params, n_head=demo.hparams.n_head)  # [n, n_vocab]
    for token, row in zip(others, logits, strict=True):
        logprobs = log_softmax(row)  # [n_vocab]
        assert abs(token["logprob"] - logprobs[token["id"]]) <= TOLERANCE
        own = row[token["id"]]  # equal logits, within rounding, share a range of ranks
        assert 1 + (row > own + TOLERANCE).sum() <= token["rank"] <= (row >= own - TOLERANCE).sum()
        assert abs(token["entropy"] + (np.exp(logprobs) * logprobs).sum()) <= 10 * TOLERANCE
    total = sum(token["logprob"] for token in others)
    n_bytes = len(text.encode()) - len(bytes.fromhex(first["bytes"]))
    assert found["logprob"] == pytest.approx(total, abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(-total / len(others)))
    assert found["bits_per_byte"] == pytest.approx(-total / math.log(2) / n_bytes)
    assert found["overlap"] == 0


def test_a_form_gets_the_same_answer(client):
    form = client.post("/score", data={"prompt": STORY}, headers=JSON)
    assert form.json == score(client, STORY)


def test_a_text_longer_than_the_context_is_scored_in_windows_that_overlap(client, demo):
    text, n_ctx = " ".join([STORY] * 40), demo.hparams.n_ctx
    found, ids = score(client, text), demo.encoder.encode(text)
    assert len(ids) > n_ctx and found["overlap"] == n_ctx // 2
    *_, last = windows(len(ids), n_ctx)
    part = ids[last.start : last.end]
    rows = gpt2(part[:-1], **demo.params, n_head=demo.hparams.n_head)  # [n, n_vocab]
    wanted = [log_softmax(row)[id] for row, id in zip(rows, part[1:], strict=True)]
    logprobs = [token["logprob"] for token in found["tokens"]]
    assert None not in logprobs[1:]
    difference = np.abs(np.array(logprobs[-last.n_new :]) - wanted[-last.n_new :])
    assert difference.max() <= TOLERANCE


def test_a_single_token_has_no_score(client):
    found = score(client, "Once")
    assert found["logprob"] == 0 and found["perplexity"] is None is found["bits_per_byte"]


def test_special_tokens_are_read_on_request(client):
    text = "One<|endoftext|>Two"
    assert score(client, text)["n_tokens"] > score(client, text, special_tokens=True)["n_tokens"]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "empty"),
        ({}, "prompt", "empty"),
        ({"prompt": 5}, "prompt", "string"),
        ({"prompt": "a", "max_tokens": 3}, "max_tokens", "prompt, special_tokens"),
        ({"prompt": "a", "temperature": 3}, "temperature", "prompt, special_tokens"),
        ({"prompt": "a" * 100_001}, "prompt", "100,001"),
    ],
)
def test_an_invalid_field_is_refused_by_name(client, fields, field, words):
    answer = client.post("/score", json=fields, headers=JSON)
    assert answer.status_code == 422
    assert answer.json["error"]["field"] == field and words in answer.json["error"]["message"]


class TestPage:
    def page(self, client, **fields):
        answer = client.get("/score", query_string=fields)
        assert answer.status_code == 200, answer.text
        return parse(answer.text)

    def test_every_number_of_the_page_is_that_of_the_json(self, client):
        text = f"{STORY} {ROBOT} xylophonist"
        found, page = score(client, text), self.page(client, prompt=text)
        assert textarea_value(page.id("score-text")) == text
        shown = page.id("score-strip").all("li")
        assert len(shown) == found["n_tokens"]
        for item, token in zip(shown[1:], found["tokens"][1:], strict=True):
            assert item.all(class_="piece")[0].text == token["piece"]
            assert item.all(class_="score-share")[0].text == percent(math.exp(token["logprob"]))
            words = item.all(class_="score-rank")[0].words
            assert f" {ordinal(token['rank'])}," in words
            limit = next((n for n in (10, 100, 1000) if token["rank"] <= n), None)
            assert words.endswith(
                f"among the first {limit:,}" if limit else "beyond the first 1,000"
            )
        assert page.id("perplexity").text == figure(found["perplexity"])
        assert page.id("bits").text == figure(found["bits_per_byte"])
        least = sorted(found["tokens"][1:], key=lambda token: token["logprob"])[:3]
        named = page.id("most-surprising").all(class_="piece")
        assert [one.text for one in named] == [token["piece"] for token in least]

    def test_the_main_page_links_to_it_and_a_form_leads_there(self, client):
        page = parse(client.get("/", query_string={"prompt": STORY}).text)
        (link,) = [a for a in page.id("tokens").all("a") if a.words == "How surprising?"]
        assert parse(client.get(link.attributes["href"]).text).id("score-strip")
        answer = client.post("/score", data={"prompt": "One\r\ntwo"})
        assert answer.status_code == 303
        assert (
            textarea_value(parse(client.get(answer.location).text).id("score-text")) == "One\ntwo"
        )

    def test_a_text_too_long_for_a_link_is_shown_at_once(self, client):
        answer = client.post("/score", data={"prompt": "=" * 3_000 + " a" * 2_500})
        assert answer.status_code == 200
        page = parse(answer.text)
        assert "overlap by" in page.id("overlap").words
        assert "more tokens" in page.words

    def test_a_link_to_the_main_page_reads_the_same_tokens(self, client):
        text = "One<|endoftext|>Two"
        page = self.page(client, prompt=text, special_tokens="1")
        (link,) = [a for a in page.all("a") if a.words.startswith("Let the model continue")]
        main = parse(client.get(link.attributes["href"]).text)
        assert len(main.id("prompt-strip").pieces()) == len(page.id("score-strip").all("li")) == 3
        (link,) = [a for a in main.all("a") if a.words == "How surprising?"]
        again = parse(client.get(link.attributes["href"]).text)
        assert len(again.id("score-strip").all("li")) == 3

    def test_errors_stand_on_the_page(self, client):
        answer = client.post("/score", data={"prompt": "a" * 100_001})
        assert answer.status_code == 422
        assert "100,001" in parse(answer.text).id("score-error").text
        page = self.page(client)
        assert not page.all(id="score-strip") and not page.all(id="score-error")
        assert "nothing stands before it" in self.page(client, prompt="Once").id("score-sums").text

    @pytest.mark.parametrize(
        ("text", "has"), [("a ", True), ("a  ", True), ("a", False), (" ", False)]
    )
    def test_a_text_that_ends_in_a_space_gets_a_hint_that_removes_it(self, client, text, has):
        page = parse(client.get("/", query_string={"prompt": text}).text)
        hints = page.all(id="trailing-space")
        assert bool(hints) == has
        if has:
            (link,) = hints[0].all("a")
            assert link.attributes["data-prompt"] == "a"
            again = parse(client.get(link.attributes["href"]).text)
            assert textarea_value(again.id("prompt")) == "a" and not again.all(id="trailing-space")


class TestStrip:
    """The prompt's strip on the main page, with scores while they are switched on."""

    def strip(self, client, prompt, path="/score", **fields):
        answer = client.post(path, data={"prompt": prompt, **fields}, headers=HTMX)
        assert answer.status_code == 200
        return parse(answer.text)

    def test_each_chip_has_its_probability_rank_and_class(self, client):
        text = f"{STORY} {ROBOT} xylophonist"
        found, strip = score(client, text), self.strip(client, text)
        chips = strip.id("prompt-strip").all("button", "chip")
        assert len(chips) == found["n_tokens"]
        assert not chips[0].all(class_="place") and not chips[0].all(class_="probability")
        for chip, token in zip(chips[1:], found["tokens"][1:], strict=True):
            rank = token["rank"]
            share, place = percent(math.exp(token["logprob"])), ordinal(rank)
            limit = next((n for n in (10, 100, 1000) if rank <= n), None)
            words = f"among the first {limit:,}" if limit else "beyond the first 1,000"
            assert chip.attributes["aria-label"].endswith(f", {share}, {place}, {words}")
            assert chip.all(class_="probability")[0].text == share
            sign = {10: "●", 100: "◐", 1000: "○", None: "▲"}[limit]
            assert chip.all(class_="place")[0].text == f"{sign} {place}"
            assert sign in strip.all("ul", "score-legend")[0].text
        assert strip.id("perplexity").text == figure(found["perplexity"])
        assert len(strip.id("most-surprising").all(class_="piece")) == 3

    def test_a_link_switches_scores_on_and_off_and_each_state_has_an_address(self, client):
        page = parse(client.get("/", query_string={"prompt": STORY}).text)
        for switch, scored in ((page.id("scores"), False), (self.strip(client, STORY), True)):
            switch = switch.id("scores") if scored else switch
            address, target = (switch.attributes[name] for name in ("hx-post", "hx-target"))
            assert target == "#tokens"
            # A form sends the field that stands in the strip, unless the switch overrides it.
            off = {"scores": ""} if scored else {}
            assert json.loads(switch.attributes.get("hx-vals", "{}")) == off
            swapped = self.strip(client, STORY, address, **off)
            assert bool(swapped.all(class_="scored")) is not scored
            assert bool(swapped.all("input", name="scores")) is not scored
            assert client.get(switch.attributes["href"]).status_code == 200

    def test_scores_follow_a_text_that_is_typed_while_they_are_switched_on(self, client, demo):
        strip = self.strip(client, STORY, "/tokenize", scores="1")
        assert "load" in strip.id("scores").attributes["hx-trigger"]
        assert strip.all("input", name="scores") and not strip.all(class_="scored")
        assert "hx-trigger" not in self.strip(client, STORY, "/tokenize").id("scores").attributes
        # A long text, which takes long, is only scored on request.
        long = " a" * (demo.hparams.n_ctx + 1)
        strip = self.strip(client, long, "/tokenize", scores="1")
        assert "hx-trigger" not in strip.id("scores").attributes

    def test_a_busy_model_is_a_hint_and_the_tokens_stay(self, client, monkeypatch):
        monkeypatch.setattr(ModelServer, "is_busy", True)
        strip = self.strip(client, STORY)
        assert strip.id("prompt-strip").pieces() == STORY_PIECES
        assert not strip.all(class_="scored") and "Others are generating" in strip.words

    def test_a_text_that_is_too_long_is_a_hint(self, client):
        assert "100,001" in self.strip(client, "a" * 100_001).words
        assert "nothing stands before it" in self.strip(client, "Once").id("score-sums").text
