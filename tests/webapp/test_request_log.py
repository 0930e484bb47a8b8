"""The line of each request in the log, its id, and that no text of a user is ever logged."""

import json
import logging
import re
import socket
from urllib.parse import quote, urlencode

import pytest
from flask.testing import FlaskClient

from gpt2core.engine.events import Unavailable
from gpt2core.hparams import HParams
from gpt2core.settings import Settings
from tests.helpers.web import (
    HTMX,
    JSON,
    PATIENCE,
    messages,
    parse,
    serving,
    shown,
    wait_until,
    write_small_model,
)
from tests.helpers.webapp_fixtures import loaded_app
from webapp import create_app, request_log
from webapp.routes import stream

HTML = {"Accept": "text/html"}
ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a model that is loaded in no time."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_small_model(folder, HParams(n_vocab=50257, n_ctx=32, n_embd=8, n_head=1, n_layer=1))
    return folder


@pytest.fixture(scope="module")
def app(tiny):
    return loaded_app(model=str(tiny))


@pytest.fixture
def client(app):
    """A client that reads each answer to its end, unless told otherwise."""

    class Reading(FlaskClient):
        def open(self, *arguments, buffered=True, **options):
            return super().open(*arguments, buffered=buffered, **options)

    return Reading(app, app.response_class)


@pytest.fixture
def lines(caplog):
    """The lines of the requests that have ended, as objects."""
    caplog.set_level(logging.INFO, "webapp.request_log")

    def lines():
        texts = [one.getMessage() for one in caplog.records if one.levelname == "INFO"]
        return [json.loads(text) for text in texts if text.startswith("{")]

    return lines


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("HEAD", "/", {}, 200),
        ("GET", "/nowhere", {}, 404),
        ("POST", "/generate", HTMX, 415),
        ("GET", "/generate", JSON, 405),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/v1/models", {}, 200),
    ],
)
def test_every_answer_has_the_id_of_its_line(client, lines, method, path, headers, status):
    answer = client.open(path, method=method, headers=headers)
    (line,) = lines()
    assert (answer.status_code, line["status"], line["method"]) == (status, status, method)
    assert ID.fullmatch(line["request_id"]) and answer.headers["X-Request-ID"] == line["request_id"]
    assert line["route"] == (None if path == "/nowhere" or status == 405 else path)
    assert 0 < line["duration_seconds"] < PATIENCE and line["time"].endswith("+00:00")
    assert not {"prompt_tokens", "refused"} & line.keys()


def test_a_line_has_the_tokens_and_why_each_text_ended(client, lines):
    fields = {"prompt": "Once upon a", "n_tokens": 4, "temperature": 0}
    client.post("/generate", data=fields, headers=HTMX)
    text = client.post("/generate", json=fields).get_json()["text"]
    stopped = client.post("/generate", json={**fields, "n_tokens": 9, "stop": text[:1]})
    body = {"model": "model", "prompt": ["Once", "upon a"], "max_tokens": 3, "n": 2}
    assert client.post("/v1/completions", json=body).status_code == 200
    client.post("/score", json={"prompt": "Once upon a"})
    assert stopped.get_json()["finish_reason"] == "stop"
    found = [
        (line["prompt_tokens"], line["generated_tokens"], line["finish_reasons"])
        for line in lines()
    ]
    assert found[:2] == [(3, 4, ["length"])] * 2
    assert found[2][0] == 3 and found[2][2] == ["stop"]
    assert found[3:] == [(2 * (1 + 2), 2 * 2 * 3, ["length"]), (3, 0, ["scored"])]


def test_a_stream_is_one_line_when_its_client_has_left(client, lines, gate):
    fields = {"prompt": "Once upon a", "n_tokens": 20}
    answer = client.post("/generate", data=fields, headers=HTMX, buffered=False)
    next(iter(answer.response))
    assert lines() == []
    answer.close()
    gate.set()
    (line,) = lines()
    assert (line["status"], line["finish_reasons"]) == (200, ["client_left"])


@pytest.mark.parametrize("headers", [HTMX, HTML], ids=["htmx", "page"])
@pytest.mark.parametrize("status", [500, 503])
def test_an_error_of_ours_is_shown_with_the_id(client, lines, monkeypatch, caplog, headers, status):
    error = RuntimeError("a fault") if status == 500 else Unavailable("busy", 5, "queue_full")

    def refuse(*_):
        raise error

    monkeypatch.setattr(stream, "submit", refuse)
    monkeypatch.setattr(stream, "finished_generation", refuse)
    answer = client.post("/generate", data={"prompt": "Once"}, headers=headers)
    assert answer.status_code == status
    (line,) = lines()
    assert f"Request {line['request_id']}" in parse(answer.get_data(as_text=True)).words
    assert line.get("refused") == (None if status == 500 else "queue_full")
    assert (f"request {line['request_id']} failed" in caplog.text) == (status == 500)


def test_errors_of_the_user_have_no_id_to_look_up(client):
    for path, status in (("/nowhere", 404), ("/generate", 405)):
        answer = client.get(path)
        assert answer.status_code == status and "Request " not in answer.get_data(as_text=True)


def test_a_stream_that_breaks_says_so_with_the_id(client, monkeypatch, caplog):
    def broken(view, _):
        raise RuntimeError(view.continuation.prompt)

    monkeypatch.setattr("webapp.views.GenerationView.add", broken)
    fields = {"prompt": "Once Lily", "n_tokens": 20}
    answer = client.post("/generate", data=fields, headers=HTMX)
    page = shown(messages(answer.get_data(as_text=True).split("\n")[:-1]))
    assert f"Request {answer.headers['X-Request-ID']}" in page.words("problem")
    assert "Something broke on our side" in page.words("problem")
    assert "RuntimeError" in caplog.text and "Lily" not in caplog.text


@pytest.mark.parametrize(
    ("given", "trusted", "taken"),
    [
        ("edge-7.a_B", 1, True),
        ("x" * 64, 1, True),
        ("edge-7", 0, False),
        ("x" * 65, 1, False),
        ("a b", 1, False),
        ('"><b>', 1, False),
        ("", 1, False),
    ],
)
def test_only_a_trusted_proxy_names_a_request_and_only_plainly(app, given, trusted, taken):
    inner = request_log.RequestLog(app.wsgi_app, trusts_ids=trusted > 0, ended=())
    environ = {"REQUEST_METHOD": "GET", "HTTP_X_REQUEST_ID": given}
    record = inner._begin(environ)
    assert (record.request_id == given) == taken
    assert taken or ID.fullmatch(record.request_id)


def test_the_setting_of_proxies_decides_whose_ids_are_taken():
    given = {"X-Request-ID": "edge-7"}
    for n, taken in ((0, False), (1, True)):
        answer = (
            create_app(Settings(trusted_proxies=n)).test_client().get("/robots.txt", headers=given)
        )
        assert (answer.headers["X-Request-ID"] == "edge-7") == taken


@pytest.mark.parametrize("begin", ["Error handling request", "Invalid request from"])
def test_lines_of_gunicorn_lose_what_they_quote(begin):
    try:
        raise ValueError("a text")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    quoting = (f"{begin} %s %s", ("GET", "/?prompt=text"), info)
    line = logging.LogRecord("gunicorn.error", logging.ERROR, "", 1, *quoting)
    assert request_log.without_request(line)
    assert "ValueError" in line.getMessage()
    assert "text" not in logging.Formatter().format(line)
    other = logging.LogRecord("gunicorn.error", logging.ERROR, "", 1, "Booting", (), info)
    assert request_log.without_request(other)
    assert "a text" in logging.Formatter().format(other)


# On the real server

WORD = "xyzzyquux"
FORMS = ({}, HTML, HTMX, JSON)


def everything_about(word: str) -> list[tuple[str, str, dict, str | None]]:
    """Requests that have the word in every place: method, path, headers, body."""
    text = f"Echo: {word} {word}"
    fields = {"prompt": text, "text": text, "a": text, "b": text, "other": text, "n_tokens": "3"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    as_json = {"Content-Type": "application/json"}
    requests = []
    for rule in create_app(Settings()).url_map.iter_rules():
        path = re.sub(r"<int:\w+>", "3", rule.rule)
        path = re.sub(r"<[^>]+>", word, path)
        if "GET" in rule.methods:
            requests.append(("GET", f"{path}?{urlencode(fields)}", {}, None))
        if "POST" in rule.methods:
            requests += [("POST", path, {**form, **kind}, urlencode(fields)) for kind in FORMS]
    invalid = {**fields, "n_tokens": word, "seed": word, "stop": word}
    failing = {"prompt": f"Fail {word}", "n_tokens": "9"}
    breaking = {"prompt": f"Break {word}", "n_tokens": "9"}
    for values in (invalid, failing, breaking):
        for kind in FORMS:
            requests.append(("POST", "/generate", {**form, **kind}, urlencode(values)))
        requests.append(("GET", f"/?generate=1&{urlencode(values)}", {}, None))
        requests.append(("GET", f"/inside/ablate/texts?parts=0.a&{urlencode(values)}", HTMX, None))
        for streams in (True, False):
            body = {"model": "demo", "prompt": values["prompt"], "max_tokens": 9, "stream": streams}
            requests.append(("POST", "/v1/completions", as_json, json.dumps(body)))
    named = {name: word for name in ("Referer", "User-Agent", "X-Request-ID", "Cookie", "Via")}
    requests.append(("GET", f"/{word}?{word}", {**named, "X-Forwarded-For": word}, None))
    requests.append((word.upper(), f"/{word}", {}, None))
    return requests


def raw_requests(word: str) -> list[bytes]:
    """What is no proper HTTP, with the word in it."""
    return [
        f"GET /?prompt={word} and more HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET /?prompt={word} HTTP/{word}\r\nHost: x\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\n{word} : x\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nReferer: {word}\x01\r\n\r\n".encode(),
        f"GET /?prompt={word * 1000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {word}\r\n\r\n".encode(),
        f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {word}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nExpect: {word}\r\n\r\n".encode(),
    ]


def test_no_text_of_a_user_is_ever_logged(tmp_path):
    written = tmp_path / "written"
    written.mkdir()
    settings = {"app": "tests.helpers.leaky:create_app()", "TMPDIR": written, "GPT2_METRICS": "on"}
    statuses = []
    with serving(written / "log", **settings) as server:
        for method, path, headers, body in everything_about(WORD):
            with server.request(method, path, body, headers) as answer:
                answer.read()
                statuses.append(answer.status)
        for data in raw_requests(WORD):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw:
                raw.sendall(data)
                raw.recv(1000)
        with server.request("GET", "/metrics") as answer:
            metrics = answer.read().decode()
        wait_until(lambda: server.log.count('"/metrics"') == 1, "the last line")
        files = [path for path in written.rglob("*") if path.is_file()]
        texts = [path.read_bytes().decode("latin-1").lower() for path in files]
        log = server.log
    assert {200, 404, 422, 500, 503} <= set(statuses)  # it went through all of them
    assert log.count('"request_id"') > len(statuses)
    assert log.count("RuntimeError (its message may quote a text)") > 5
    assert len(files) >= 4  # the log and the files of the metrics
    for text in [metrics.lower(), *texts]:
        assert WORD not in text and quote(WORD) not in text
