"""A snippet runs as it is copied and gives the same text."""

import json
import subprocess
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.texts import TRICKY_TEXT
from tests.helpers.web import HEROES, ROBOT, ROOT, environment, parse
from webapp.forms import stop_lines
from webapp.links import MAX_LINK
from webapp.snippets import as_command, as_curl, as_python

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
# One for each code path; starting programs is slow.
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


class TestSnippets:
    @pytest.mark.parametrize("name", RUN)
    def test_curl_command_line_and_python_give_the_text_of_the_page(self, name, server):
        fields = {"prompt": PROMPTS[name], **FIELDS}
        text = server.generate_json(**fields)["text"]
        curl = run("sh", "-c", as_curl(fields, f"{server.url}/generate"))
        assert json.loads(curl)["text"] == text
        assert run("sh", "-c", as_command(fields, "demo")) == text + "\n"
        assert run("python", "-", stdin=as_python(fields, "demo")) == text + "\n"

    @every_prompt
    def test_every_character_of_a_snippet_is_visible(self, prompt):
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

    def test_stop_strings_are_part_of_each(self, server):
        fields = {"prompt": HEROES, **FIELDS, "temperature": "0"}
        whole = server.generate_json(**fields)["text"]
        stop = whole[len(whole) // 2 :][:3]
        fields["stop"] = stop_lines(["it's \n", stop])
        text = server.generate_json(**fields)["text"]
        assert text == whole[: whole.index(stop)]
        curl = run("sh", "-c", as_curl(fields, f"{server.url}/generate"))
        assert json.loads(curl)["text"] == text
        assert run("sh", "-c", as_command(fields, "demo")) == text + "\n"
        assert run("python", "-", stdin=as_python(fields, "demo")) == text + "\n"
        assert as_command({**fields, "stop": "\\t"}, "demo") is None

    @pytest.mark.parametrize("name", ["some/where/mine", "."])
    def test_a_folder_of_the_server_is_asked_for_by_curl_only(self, app, monkeypatch, name):
        model_server = app.extensions["model_server"]
        monkeypatch.setattr(model_server, "model_name", name)
        answer = app.test_client().post("/generate", data={"prompt": HEROES, **FIELDS})
        shown = snippets(parse(answer.text))
        assert set(shown) == {"share-link", "share-curl"}
        assert "some" not in answer.text and "model=" in shown["share-link"]
        assert not shown["share-link"].endswith("model=") and "model=&" not in shown["share-link"]

    def test_a_model_name_with_special_characters_is_quoted(self):
        fields = {"prompt": "a", **FIELDS}
        assert "--model_size 'my model; ls'" in as_command(fields, "my model; ls")
        assert "load_model('my model; ls')" in as_python(fields, "my model; ls")

    @given(TRICKY_TEXT | st.text() | st.sampled_from(list(PROMPTS.values())))
    def test_any_prompt_survives_the_shell(self, prompt):
        command = as_command({"prompt": prompt, **FIELDS}, "demo")
        # In place of python: what gives back its standard input, or its last argument.
        if command.startswith("printf"):
            received = run("sh", "-c", f"python() {{ cat; }}\n{command}")
            received = received.removesuffix("\n").removesuffix("\r")  # as the command line does
        else:
            last = 'for last; do :; done; printf %s "$last"'
            received = run("sh", "-c", f"python() {{ {last}; }}\n{command}")
        assert received == prompt

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
