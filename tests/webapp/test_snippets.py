"""What is copied runs as it is and gives the same text; what is downloaded is what is shown."""

import csv
import io
import json
import subprocess
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.tokenizer.vocabulary import default_encoder
from tests.gpt2core.tokenizer.test_bpe import TRICKY_TEXT
from tests.helpers.web import HEROES, HEROES_IDS, JSON, ROBOT, ROOT, environment, parse
from webapp.routes.export import COLUMNS, to_csv, token_rows
from webapp.snippets import MAX_LINK, as_command, as_curl, as_python

FIELDS = {"n_tokens": 6, "temperature": "0.9", "top_k": 50, "top_p": "0.95", "seed": 1234}
PROMPTS = {
    "plain": HEROES,
    "quotes": """It's "so" `id` $HOME \\ \\n !x %d %s""",
    "shell": "a; b & c | d > e # f * ? ~ {1,2}",
    "an option": "--seed",
    "help": "-h",
    "two dashes": "--",
    "one dash": "-",
    "a command": "tokenize",
    "a file": "@/etc/hostname",
    "line ends": "\n\na\nb\n\n",
    "carriage returns": "a\r\nb\r",
    "tabs and controls": "-\ta\x1b[31mb\x7f",
    "NUL": "a\x00b",
    "white space": "   ",
    "scripts": "naïve 日本語 हिन्दी עברית",
    "joined emoji": f"👩\u200d🚀 {ROBOT}",
    "unseen": "a\u202eb\u2028c\x85d\ufeff",
    "markup": "<b>&amp;</code></pre>",
}
# Those that each take a way of their own; starting programs is slow.
RUN = ["plain", "quotes", "an option", "one dash", "line ends", "carriage returns", "NUL", "unseen"]
every_prompt = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)


def run(*command: str, stdin: str = "") -> str:
    """Standard output of a command, which must succeed, in the project's folder."""
    done = subprocess.run(
        command, input=stdin.encode(), capture_output=True, cwd=ROOT, env=environment(), timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode()


def snippets(page) -> dict[str, str]:
    """What the copy buttons of a parsed page copy."""
    return {
        button.attributes["data-copy"]: page.id(button.attributes["data-copy"]).text
        for button in page.all("button", class_="copy")
    }


class TestCopied:
    @pytest.mark.parametrize("name", RUN)
    def test_curl_command_line_and_python_give_the_text_of_the_page(self, name, server):
        fields = {"prompt": PROMPTS[name], **FIELDS}
        text = server.generate_json(**fields)["text"]
        curl = run("sh", "-c", as_curl(fields, f"{server.url}/generate"))
        assert json.loads(curl)["text"] == text
        assert run("sh", "-c", as_command(fields, "demo")) == text + "\n"
        assert run("python", "-", stdin=as_python(fields, "demo")) == text + "\n"

    @every_prompt
    def test_every_character_of_a_snippet_is_seen(self, prompt):
        fields = {"prompt": prompt, **FIELDS}
        for text in (
            as_curl(fields, "http://localhost/generate"),
            as_command(fields, "demo"),
            as_python(fields, "demo"),
        ):
            assert all(char.isprintable() or char == "\n" for char in text)

    def test_kept_tokens_are_kept(self, server):
        fields = {"prompt": HEROES, **FIELDS, "kept": "262,749"}
        made = server.generate_json(**fields)["text"]
        curl = run("sh", "-c", as_curl(fields, f"{server.url}/generate"))
        assert json.loads(curl)["text"] == made
        assert run("python", "-", stdin=as_python(fields, "demo")).endswith(made + "\n")
        assert as_command(fields, "demo") is None

    def test_a_model_with_a_strange_name_is_quoted(self):
        fields = {"prompt": "a", **FIELDS}
        assert "--model_size 'my model; ls'" in as_command(fields, "my model; ls")
        assert "load_model('my model; ls')" in as_python(fields, "my model; ls")

    @given(TRICKY_TEXT | st.text() | st.sampled_from(list(PROMPTS.values())))
    def test_any_prompt_survives_the_shell(self, prompt):
        command = as_command({"prompt": prompt, **FIELDS}, "demo")
        # In place of python: what gives back its standard input, or its last argument.
        if command.startswith("printf"):
            told = run("sh", "-c", f"python() {{ cat; }}\n{command}")
            told = told.removesuffix("\n").removesuffix("\r")  # as the command line does
        else:
            last = 'for last; do :; done; printf %s "$last"'
            told = run("sh", "-c", f"python() {{ {last}; }}\n{command}")
        assert told == prompt

    def test_the_page_shows_them_after_a_text(self, server):
        with server.generate(prompt="It's\n<b>", **FIELDS) as response:
            page = parse(response.read().decode())
        shown = snippets(page)
        fields = {"prompt": "It's\n<b>", **FIELDS}
        assert shown["share-curl"] == as_curl(fields, f"{server.url}/generate")
        assert shown["share-command"] == as_command(fields, "demo")
        assert shown["share-python"] == as_python(fields, "demo")
        link = urlsplit(shown["share-link"])
        assert shown["share-link"].startswith(server.url)
        assert {name: values[0] for name, values in parse_qs(link.query).items()} == {
            **{name: str(value) for name, value in fields.items()},
            "model": "demo",
        }

    def test_a_text_too_long_for_a_link_says_so(self, client):
        prompt = "=" * (MAX_LINK // 3 + 1)  # three characters each in an address
        page = parse(client.post("/generate", data={"prompt": prompt, **FIELDS}).text)
        assert "share-link" not in snippets(page)
        assert "too long for a link" in page.words
        assert "share-curl" in snippets(page)


class TestDownloaded:
    def test_json_and_csv_hold_the_tokens_of_a_prompt(self, client, encoder):
        answer = client.get("/tokens.json", query_string={"prompt": HEROES})
        assert answer.mimetype == "application/json"
        whole = json.loads(answer.text)
        assert (whole["model"], whole["prompt"]) == ("demo", HEROES)
        assert [token["id"] for token in whole["tokens"]] == HEROES_IDS
        assert whole["tokens"][1] == {
            "index": 1, "id": 477, "piece": "Ġall", "bytes": "20616c6c", "text": " all",
            "start": 3, "end": 7, "logprob": None,
        }  # fmt: skip
        table = client.get("/tokens.csv", query_string={"prompt": HEROES})
        assert table.mimetype == "text/csv"
        assert table.text.splitlines()[:3] == [
            ",".join(COLUMNS), "0,3673,Not,4e6f74,Not,0,3,", "1,477,Ġall,20616c6c, all,3,7,",
        ]  # fmt: skip

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_it_is_a_file_to_keep(self, kind, client):
        answer = client.get(f"/tokens.{kind}?prompt=a")
        assert answer.headers["Content-Disposition"] == f"attachment; filename=glyph-tokens.{kind}"

    def test_there_is_no_other_kind(self, client):
        assert client.get("/tokens.xml?prompt=a").status_code == 404

    def test_the_page_sends_what_it_shows(self, client):
        form = {"prompt": f"café {ROBOT}", **FIELDS}
        page = parse(client.post("/generate", data=form).text)
        (download,) = page.all("form", class_="download")
        sent = {e.attributes["name"]: e.attributes["value"] for e in download.all("input")}
        whole = json.loads(client.post(download.attributes["action"], data=sent).text)
        made = client.post("/generate", data=form, headers=JSON).json
        shown = page.id("strip").ids()
        assert [token["id"] for token in whole["tokens"]] == shown
        assert [token["id"] for token in made["tokens"]] == shown[made["prompt_tokens"] :]
        logprobs = [token["logprob"] for token in whole["tokens"]]
        assert logprobs[: made["prompt_tokens"]] == [None] * made["prompt_tokens"]
        assert logprobs[made["prompt_tokens"] :] == [token["logprob"] for token in made["tokens"]]

    def test_tokens_that_are_part_of_a_character_have_bytes_and_no_text(self, encoder):
        rows = token_rows(encoder, ROBOT, encoder.encode(ROBOT), [None] * 3)
        assert [row["text"] for row in rows] == [None] * 6
        assert [(row["start"], row["end"]) for row in rows] == [(0, 1)] * 3 + [(1, 2)] * 3
        assert bytes.fromhex("".join(row["bytes"] for row in rows)).decode() == 2 * ROBOT

    def test_the_end_of_a_text_has_no_text(self, encoder):
        the, end = token_rows(encoder, "In", [262, 50256], [None, -0.5])[1:]
        assert (the["text"], the["start"], the["end"]) == (" the", 2, 6)
        assert (end["text"], end["start"], end["end"], end["logprob"]) == (None, 6, 6, -0.5)

    @given(TRICKY_TEXT)
    def test_a_table_read_again_gives_the_text(self, text):
        encoder = default_encoder()
        rows = token_rows(encoder, text, [], [])
        read = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
        assert bytes.fromhex("".join(row["bytes"] for row in read)).decode() == text
        assert [int(row["id"]) for row in read] == encoder.encode(text)
        for row in read:
            if row["text"]:
                assert row["text"].encode().hex() == row["bytes"]

    def test_no_token_is_a_formula(self, encoder):
        # What begins like one holds no letter and no digit: nothing to call or refer to.
        for id in range(encoder.n_vocab):
            text = encoder.token_bytes(id).decode(errors="replace")
            if text[0] in "=+-@":
                assert not any(char.isalnum() for char in text), text

    @pytest.mark.parametrize(
        ("query", "complaint"),
        [
            ("prompt=a&kept=x", "ids"),
            ("prompt=a&kept=99999999", "50256"),
            ("prompt=a&kept=262&logprobs=nan", "finite"),
            ("prompt=a&kept=262&logprobs=much", "numbers"),
            ("prompt=a&kept=262&logprobs=-1,-2", "2 log-probabilities for 1 kept"),
            ("prompt=a&logprobs=-1", "1 log-probabilities for 0 kept"),
            ("prompt_json={", "prompt as JSON"),
            ("prompt_json=1", "must be text"),
            ("prompt=" + quote("x" * 100_001), "100,000"),
        ],
    )
    def test_what_cannot_be_is_told(self, query, complaint, client):
        answer = client.get(f"/tokens.json?{query}", headers=JSON)
        assert answer.status_code == 422
        assert complaint in answer.json["error"]["message"]
        assert complaint in parse(client.get(f"/tokens.csv?{query}").text).words
