"""GET /inside: every number is an array's, every sum is seen, every text has its page."""

import ast
import html
import json
import re
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import pytest

from gpt2core.hparams import HParams
from gpt2core.inside.recording import record_pass
from gpt2core.settings import Settings
from gpt2core.store.weights import save_params
from tests.helpers.inside_pages import ODD, PATHS
from tests.helpers.paths import ROOT
from tests.helpers.small_models import SmallModel
from tests.helpers.web import HTMX, JSON, ROBOT, parse, textarea_value
from tests.helpers.webapp_fixtures import loaded_app
from webapp import create_app
from webapp.inside.page import EXAMPLE
from webapp.links import MAX_LINK
from webapp.services import get_recordings

MAX_PAGE = 300_000  # bytes


class TestLinks:
    @pytest.mark.parametrize("path", PATHS[1:])
    def test_every_number_leads_to_a_line_that_is_there(self, look, path):
        page = look(path, prompt=EXAMPLE)
        source = {e.attributes["id"] for e in look("/source/model.py") if e.attributes.get("id")}
        ids = [e.attributes["id"] for e in page if e.attributes.get("id")]
        assert len(ids) == len(set(ids))
        lines = page.all("a", class_="inside-line")
        assert lines or path in (*PATHS[1:3], *PATHS[17:])
        for link in lines:
            where, anchor = link.attributes["href"].split("#")
            assert anchor in (source if where else ids)

    def test_a_line_of_the_file_leads_to_its_values(self, look):
        source = look("/source/model.py", prompt="two words")
        back = {
            urlsplit(link.attributes["href"]).path
            for link in source.all("a", class_="inside-back")
            if parse_qs(urlsplit(link.attributes["href"]).query) == {"prompt": ["two words"]}
        }
        assert back == {f"/inside/{n}" for n in range(3, 17)}
        for link in source.all("a", class_="inside-back"):
            href = link.attributes["href"]
            where, anchor = href.split("#")
            assert any(e.attributes.get("id") == unquote(anchor) for e in look(where)), href

    @pytest.mark.parametrize("path", PATHS)
    def test_the_link_to_a_view_is_that_view(self, client, look, path):
        fields = {"prompt": ODD, "at": 4, "layer": 1, "head": 2, "kept": "11", "seed": 5}
        page = look(path, **fields)
        (link,) = page.all("a", rel="bookmark")
        again = parse(client.get(link.attributes["href"]).text)
        assert again.words == page.words

    def test_the_steps_follow_each_other(self, look):
        for at, path in enumerate(PATHS[1:], start=1):
            page = look(path, prompt=EXAMPLE)
            after = [urlsplit(a.attributes["href"]).path for a in page.all("a", rel="next")]
            before = [urlsplit(a.attributes["href"]).path for a in page.all("a", rel="prev")]
            assert after == ([f"/inside/{at + 1}"] if at < 18 else [])
            assert before == ([f"/inside/{at - 1}"] if at > 1 else [])

    def test_a_text_too_long_for_an_address_travels_as_ids(self, client, demo):
        text = ("=" * 64 + "\n") * 100
        answer = client.post("/inside", data={"prompt": text})
        assert answer.status_code == 303
        location = answer.headers["Location"]
        assert len(location) < MAX_LINK
        page = parse(client.get(location).text)
        pieces = [
            chip.all(class_="piece")[0].text for chip in page.all("button", class_="inside-chip")
        ]
        assert pieces == [demo.encoder.decoder[id] for id in demo.encoder.encode(text)]
        assert page.id("inside-text").text.removeprefix("\n") == text

    def test_kept_tokens_are_as_good_as_the_prompts(self, client, demo):
        text = "The old king said to his daughter"
        ids = demo.encoder.encode(text)
        whole = client.get("/inside.json", query_string={"prompt": text}).get_json()
        start = demo.encoder.decode(ids[:3])
        kept = ",".join(map(str, ids[3:]))
        cut = client.get("/inside.json", query_string={"prompt": start, "kept": kept}).get_json()
        assert cut == whole


class TestTheWayIn:
    def inside_links(self, client, prompt, **settings):
        page = parse(client.get("/", query_string={"prompt": prompt, **settings}).text)
        return [a for a in page.all("a") if a.words.startswith("Look inside")]

    def test_the_page_links_to_what_happens_inside_its_prompt(self, client):
        (link,) = self.inside_links(client, "two\n words")
        page = parse(client.get(link.attributes["href"]).text)
        assert textarea_value(page.id("inside-text")) == "two\n words"

    def test_it_does_not_where_there_is_nothing_to_see(self, client, story):
        assert not self.inside_links(client, "")
        assert not self.inside_links(client, story(257))
        off = create_app(Settings(inside=False)).test_client()
        assert not self.inside_links(off, "two words")
        assert "Why this token" in client.get("/").text
        assert "Why this token" not in off.get("/").text

    def test_the_settings_go_along(self, client):
        fields = {"prompt": EXAMPLE, "temperature": "2", "top_k": "40", "seed": "12"}
        (link,) = self.inside_links(client, **fields)
        asked = dict(parse_qsl(urlsplit(link.attributes["href"]).query))
        assert asked == {"prompt": EXAMPLE, "temperature": "2", "seed": "12"}
        tokens = client.post("/tokenize", data=fields, headers=HTMX).text
        assert any(a.attributes["href"] == link.attributes["href"] for a in parse(tokens).all("a"))
        (link,) = self.inside_links(client, **fields | {"temperature": "hot"})
        assert "temperature" not in link.attributes["href"]

    def test_the_way_back_has_the_text_and_the_settings(self, client, look):
        ids = client.post("/tokenize", json={"prompt": " was sad"}, headers=JSON).json
        kept = ",".join(str(token["id"]) for token in ids["tokens"])
        page = look("/inside/9", prompt=EXAMPLE, kept=kept, temperature=2)
        (link,) = [a for a in page.all("a") if a.words == "← Your text"]
        back = parse(client.get(link.attributes["href"]).text)
        assert textarea_value(back.id("prompt")) == EXAMPLE
        assert back.id("text").words == EXAMPLE + " was sad"
        assert back.id("temperature").attributes["value"] == "2"

    def test_the_drawn_token_can_be_kept_and_looked_into(self, client, look):
        page = look("/inside/18", prompt=EXAMPLE, seed=7)
        (link,) = [a for a in page.all("a") if a.words.startswith("Look inside the text")]
        after = parse(client.get(link.attributes["href"]).text)
        made = after.all("button", class_="inside-made")
        drawn = page.all("tr", class_="chosen")[0].all(class_="piece")[0].text
        assert [chip.all(class_="piece")[0].text for chip in made] == [drawn]
        two = client.post(
            "/generate", json={"prompt": EXAMPLE, "seed": 7, "n_tokens": 2}, headers=JSON
        ).get_json()
        query = parse_qs(urlsplit(link.attributes["href"]).query)
        next_draw = look("/inside/18", **{name: values[-1] for name, values in query.items()})
        (row,) = next_draw.all("tr", class_="chosen")
        assert [drawn, row.all(class_="piece")[0].text] == [t["piece"] for t in two["tokens"]]


class TestLabels:
    def test_tokens_are_spelled_noted_and_bracketed(self, look, demo):
        page = look("/inside/9", prompt=ODD, kept="50256,172")
        chips = page.all("button", class_="inside-chip")
        ids = [*demo.encoder.encode(ODD.replace("\r\n", "\n")), 50256, 172]
        assert [c.all(class_="piece")[0].text for c in chips] == [
            demo.encoder.decoder[i] for i in ids
        ]
        notes = [note.text for chip in chips for note in chip.all(class_="inside-note")]
        assert {"NUL", "end of text"} <= set(notes)
        assert notes[-1] == "byte f0"  # a lone byte of a character that nothing completes
        shared = [e.words for e in page.all("span", class_="inside-shared")]
        assert shared == [f"␣{ROBOT}", "␣日", "本"]
        made = page.all("button", class_="inside-made")
        assert [chip.attributes["value"] for chip in made] == [str(len(ids) - 1), str(len(ids))]


class TestTheChosenHead:
    def test_the_head_that_adds_most_to_the_answer_is_one_link_away(self, client, look, demo):
        ids = demo.encoder.encode(EXAMPLE)
        recording = record_pass(ids, demo.params, demo.hparams.n_head)
        answer, shares = int(recording.last_logits.argmax()), {}
        direction = demo.params["ln_f"]["g"] * demo.params["wte"][answer]  # [n_embd]
        direction = (direction - direction.mean()) / recording.divisors[-1]
        for layer, block in enumerate(demo.params["blocks"]):
            rows = block["attn"]["c_proj"]["w"].reshape(demo.hparams.n_head, -1, len(direction))
            for head, output in enumerate(recording.heads[layer][:, -1]):
                shares[layer, head] = abs(float(output @ rows[head] @ direction))
        layer, head = max(shares, key=lambda cell: shares[cell])
        (link,) = [
            a for a in look("/inside/9", prompt=EXAMPLE).all("a") if a.words.startswith("layer ")
        ]
        assert link.words == f"layer {layer}, head {head}"
        there = parse(client.get(link.attributes["href"]).text)
        assert f"in layer {layer}, head {head}" in there.all("h2")[1].words
        assert "Of all heads, this one adds most" in there.words


class TestWhatIsSaidBesideNumbers:
    def test_the_draw_says_its_settings_and_the_cuts_end_before_it(self, look):
        settings = {"temperature": 1.5, "top_k": 7, "top_p": 0.9, "seed": 12}
        said = look("/inside/18", prompt=EXAMPLE, **settings).words
        assert "Drawn with temperature 1.5, top-k 7, top-p 0.9 and seed 12" in said
        cuts = look("/inside/17", prompt=EXAMPLE, **settings).all("table")[0]
        after = [row.all("th")[0].words for row in cuts.all("tr")[1:]]
        assert after == ["the model alone", "temperature 1.5", "top-k 7", "top-p 0.9"]

    def test_a_token_counts_from_1_and_its_row_from_0(self, look):
        (said,) = look("/inside/9", prompt=EXAMPLE, at=3).all("div", class_="inside-controls")
        assert re.match(r"Token 3 of 8, Ġsat ?: row \[2\] of the arrays", said.words)

    def test_the_mean_is_subtracted_with_its_sign(self, look, demo):
        ids = demo.encoder.encode(EXAMPLE)
        for path, state in (("/inside/5", 0), ("/inside/15", -1)):
            mean = float(
                record_pass(ids, demo.params, demo.hparams.n_head).residual[state][-1].mean()
            )
            equation = look(path, prompt=EXAMPLE).all("p", class_="inside-equation")[0].words
            assert equation.startswith("(x − " if mean >= 0 else "(x + ")

    def test_the_mask_leads_to_a_token_that_it_hides_others_from(self, client, look):
        (link,) = [
            a
            for a in look("/inside/8", prompt=EXAMPLE).all("a")
            if a.words == "Choose an earlier one"
        ]
        there = parse(client.get(link.attributes["href"]).text)
        assert there.all("tr", class_="inside-forbidden")


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "field", "parts"),
        [
            ({"prompt": ""}, "inside-text", ["empty"]),
            ({"prompt": EXAMPLE, "at": 9}, "mend-at", ["9", "1 to 8"]),
            ({"prompt": EXAMPLE, "layer": 6}, "mend-layer", ["6", "0 to 5"]),
            ({"prompt": EXAMPLE, "cell": "0.3"}, "mend-head", ["3", "0 to 2"]),
            ({"prompt": EXAMPLE, "for": 50257}, "mend-for", ["50257", "50256"]),
            ({"prompt": EXAMPLE, "for": "wasn't"}, "mend-for", ["3 tokens, was n 't"]),
            ({"prompt": EXAMPLE, "at": "x"}, "mend-at", ["'x'"]),
            ({"prompt": EXAMPLE, "temperature": 9}, "mend-temperature", ["9", "5"]),
        ],
    )
    def test_a_bad_field_has_its_message_beside_it(self, client, fields, field, parts):
        answer = client.get("/inside/9", query_string=fields)
        assert answer.status_code == 422
        page = parse(answer.text)
        control = page.id(field)
        assert control.attributes["aria-invalid"] == "true"
        message = page.id(control.attributes["aria-describedby"]).words
        assert all(part in message for part in parts)
        refused = client.get("/inside.json", query_string=fields)
        assert refused.status_code == 422 and refused.get_json()["error"]["message"] == message

    def test_mended_fields_are_sent_to_the_page_that_refused_them(self, client):
        answer = client.get("/inside/17", query_string={"prompt": EXAMPLE, "top_k": -3})
        (form,) = parse(answer.text).all("form", class_="inside-mend")
        assert form.attributes["action"] == "/inside/17"

    def test_htmx_gets_the_messages_alone_so_that_the_view_stays(self, client):
        fields = {"prompt": EXAMPLE, "top_k": -3, "at": "x"}
        answer = client.get("/inside/17", query_string=fields, headers=HTMX)
        assert answer.status_code == 422 and 'id="inside"' not in answer.text
        messages = parse(answer.text).all("p", class_="problem")
        assert {message.attributes["data-field"] for message in messages} == {"at", "top_k"}
        assert any("Top-k is -3" in message.words for message in messages)

    @pytest.mark.parametrize("n_tokens", [257, 400])
    def test_a_text_that_is_too_long_is_told_both_numbers_and_a_way_on(
        self, client, story, n_tokens
    ):
        answer = client.get("/inside/9", query_string={"prompt": story(n_tokens)})
        assert answer.status_code == 422
        page = parse(answer.text)
        assert (
            str(n_tokens) in page.id("inside-error").words
            and "256" in page.id("inside-error").words
        )
        (link,) = [a for a in page.all("a") if a.words == "Look into the last of them"]
        last = parse(client.get(link.attributes["href"]).text)
        assert len(last.all("button", class_="inside-chip")) == 256

    def test_a_model_with_more_room_still_draws_256(self, tmp_path, story):
        hparams = HParams(n_vocab=50_257, n_ctx=600, n_embd=12, n_head=2, n_layer=1)
        small = SmallModel(hparams, seed=3, embedding=0.1, weight=0.1, bias=0.1, gain=0.1)
        (tmp_path / "wide").mkdir()
        save_params(tmp_path / "wide" / "model.safetensors", small.params())
        (tmp_path / "wide" / "hparams.json").write_text(json.dumps(hparams.to_dict()))
        app = loaded_app(model="wide", models_dir=str(tmp_path))
        client = app.test_client()
        refused = client.get("/inside", query_string={"prompt": story(257)})
        assert refused.status_code == 422
        for path in PATHS:
            assert client.get(path, query_string={"prompt": story(80)}).status_code == 200

    @pytest.mark.parametrize("path", ["/inside/0", "/inside/19", "/inside/x", "/inside/007x"])
    def test_there_are_eighteen_steps(self, client, path):
        assert client.get(path).status_code == 404

    def test_off_is_off(self):
        client = create_app(Settings(inside=False)).test_client()
        for path in (*PATHS, "/inside.json", "/inside.npz", "/inside.csv", "/source/model.py"):
            assert client.get(path).status_code == 404
        assert client.post("/inside", data={"prompt": "a"}).status_code == 404

    def test_while_another_text_is_recorded_it_says_when_to_come_again(
        self, app, client, monkeypatch
    ):
        with app.app_context():
            recordings = get_recordings()
        monkeypatch.setattr(recordings, "patience", 0.01)
        with recordings._running:
            for path in ("/inside", "/inside/9", "/inside.json"):
                answer = client.get(path, query_string={"prompt": "never looked into before"})
                assert answer.status_code == 503 and answer.headers["Retry-After"] == "5"
        assert (
            client.get("/inside", query_string={"prompt": "never looked into before"}).status_code
            == 200
        )


class TestPages:
    @pytest.mark.parametrize("n_tokens", [1, 2, 24, 25, 64, 65, 256])
    def test_every_view_is_small_and_keeps_the_policy(self, client, story, n_tokens):
        for path in PATHS:
            text = client.get(path, query_string={"prompt": story(n_tokens)}).text
            assert len(text.encode()) <= MAX_PAGE
            assert "style=" not in text and "data:" not in text and "<script>" not in text

    @pytest.mark.parametrize("text", [("=" * 64 + "\n") * 127, "日本語" * 42, "\x00" * 256])
    def test_so_is_the_view_of_the_worst_texts(self, client, text):
        for path in PATHS:
            answer = client.get(path, query_string={"prompt": text})
            assert answer.status_code == 200 and len(answer.data) <= MAX_PAGE

    @pytest.mark.parametrize("path", PATHS)
    def test_htmx_gets_the_part_that_changes_and_nothing_else(self, client, look, path):
        answer = client.get(path, query_string={"prompt": EXAMPLE, "at": 2}, headers=HTMX)
        part = parse(answer.text)
        assert not part.all("html") and not part.all("header")
        assert part.id("inside").words == look(path, prompt=EXAMPLE, at=2).id("inside").words

    @pytest.mark.parametrize("path", PATHS)
    def test_a_page_links_the_styles_of_its_borrowed_parts(self, client, look, path):
        page = look(path, prompt=EXAMPLE)
        styles = ""
        for link in page.all("link", rel="stylesheet"):
            with client.get(link.attributes["href"]) as answer:
                styles += answer.text
        names = {n for e in page for n in (e.attributes.get("class") or "").split()}
        assert not {n for n in names if n.startswith("bpe-") and f".{n}" not in styles}

    def test_no_address_has_two_answers(self, client):
        other = loaded_app().test_client()
        for path in [*PATHS, "/inside.json", "/inside.csv"]:
            fields = {"prompt": "The two workers", "at": 2}
            cold = client.get(path, query_string=fields).data
            assert client.get(path, query_string=fields).data == cold
            assert other.get(path, query_string=fields).data == cold

    def test_a_first_visit_shows_an_example(self, look):
        assert look("/inside").id("inside-text").words == EXAMPLE

    def test_a_button_counts_more_than_the_field_that_holds_its_default(self, client):
        page = parse(client.get(f"/inside/9?{urlencode({'prompt': EXAMPLE})}&at=8&at=2").text)
        (chosen,) = [
            c for c in page.all("button", class_="inside-chip") if c.attributes.get("aria-current")
        ]
        assert chosen.attributes["value"] == "2"


def test_nothing_on_these_pages_is_made_up():
    """No module of the inside views makes random numbers of its own."""
    for path in sorted((ROOT / "webapp" / "inside").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not names & {"default_rng", "secrets", "RandomState"}, path


def test_text_of_a_page_is_escaped(client):
    text = client.get("/inside/9", query_string={"prompt": '<script>"&'}).text
    assert "<script>" not in text and html.escape("<") in text
