"""Limits of one client: how many texts at once, how often; and a page that others still get."""

import json
import re
import subprocess
import time
from contextlib import contextmanager

import pytest

from gpt2core.settings import SettingError, Settings
from tests.helpers.web import HTMX, JSON, PATIENCE, free_port, parse, serving, wait_until
from webapp import create_app

FIELDS = {"prompt": "Not all", "n_tokens": "1"}
COMPLETION = {"model": "demo", "prompt": "Not all", "max_tokens": 1}
ADDRESS = "203.0.113.1"


def ask(client, address=ADDRESS, headers=JSON, **fields):
    there = {"REMOTE_ADDR": address}
    return client.post(
        "/generate", data={**FIELDS, **fields}, headers=headers, environ_overrides=there
    )


@pytest.fixture
def limited():
    """A client of an app that lets each client start two texts."""
    with ready(Settings(rate_limit="2 per hour")) as client:
        yield client


@contextmanager
def ready(settings: Settings):
    """A client of an app whose model is loaded."""
    app = create_app(settings)
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(timeout=PATIENCE)
    yield app.test_client()
    model_server.stop()


def test_too_many_requests_are_refused_in_every_form(limited):
    assert [ask(limited).status_code for _ in range(2)] == [200, 200]
    sentence = "This server takes 2 per 1 hour from one client; try again in"
    there = {"REMOTE_ADDR": ADDRESS}
    answers = {
        "json": ask(limited),
        "htmx": ask(limited, headers=HTMX),
        "page": ask(limited, headers={}),
        "openai": limited.post("/v1/completions", json=COMPLETION, environ_overrides=there),
        "file": limited.get("/inside/lens.csv?prompt=a", environ_overrides=there),
        "link": limited.get("/?prompt=a&seed=1&generate=1", environ_overrides=there),
    }
    for form, answer in answers.items():
        assert answer.status_code == 429, form
        assert 3500 < int(answer.headers["Retry-After"]) <= 3601, form
        assert sentence in answer.text, form
    assert sentence in answers["json"].json["error"]["message"]
    assert answers["openai"].json["error"] | {"message": ""} == {
        "message": "", "type": "requests", "param": None, "code": "rate_limit_exceeded",
    }  # fmt: skip
    page = parse(answers["page"].text)
    assert page.id("prompt").text.strip() == FIELDS["prompt"]  # what was typed is still there
    assert sentence in page.id("problem").words


def test_the_limit_is_that_of_one_client(limited):
    assert [ask(limited).status_code for _ in range(3)] == [200, 200, 429]
    assert ask(limited, "203.0.113.2").status_code == 200
    # The addresses of one IPv6 network belong to one client.
    network = [ask(limited, f"2001:db8:1:2::{n}").status_code for n in range(1, 4)]
    assert network == [200, 200, 429]
    assert ask(limited, "2001:db8:1:3::1").status_code == 200


def test_a_forwarded_address_is_no_way_around_the_limit(limited):
    headers = [{**JSON, "X-Forwarded-For": f"198.51.100.{n}"} for n in range(3)]
    assert [ask(limited, headers=one).status_code for one in headers] == [200, 200, 429]


def test_typing_and_looking_are_not_counted(limited):
    there = {"REMOTE_ADDR": ADDRESS}
    for _ in range(3):
        for path in ("/", "/healthz", "/static/app.css", "/bpe?text=a", "/v1/models", "/api"):
            with limited.get(path, environ_overrides=there) as answer:
                assert answer.status_code != 429, path
        for path in ("/tokenize", "/next", "/append"):
            fields = {**FIELDS, "kept": "262"}
            answer = limited.post(path, data=fields, headers=HTMX, environ_overrides=there)
            assert answer.status_code == 200, path
    assert ask(limited).status_code == 200


@pytest.mark.parametrize("limit", ["many", "60", "0 per minute per", "sixty per minute"])
def test_an_invalid_limit_is_a_sentence(limit):
    with pytest.raises(SettingError, match=f"^GPT2_RATE_LIMIT is {limit!r}; it must be as"):
        create_app(Settings(rate_limit=limit))


@pytest.mark.parametrize("storage", ["redis", "file:///tmp/x", "localhost:6379"])
def test_an_invalid_storage_is_a_sentence(storage):
    with pytest.raises(SettingError, match=f"^GPT2_RATE_STORAGE is {storage!r}; it must be"):
        create_app(Settings(rate_limit="1 per second", rate_storage=storage))


def test_without_its_storage_each_process_counts_by_itself(caplog):
    storage = f"redis://127.0.0.1:{free_port()}"
    with ready(Settings(rate_limit="2 per hour", rate_storage=storage)) as client:
        assert [ask(client).status_code for _ in range(3)] == [200, 200, 429]
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "storage unreachable" in line


def test_a_client_has_a_limited_number_of_texts_at_once(own_server):
    paced = {"app": "tests.helpers.paced:create_app()", "TEST_PACE": 0.03}
    with own_server(**paced, GPT2_MAX_PER_CLIENT=1, GPT2_TRUSTED_PROXIES=1) as server:
        mine, others = ({"X-Forwarded-For": ip} for ip in (ADDRESS, "203.0.113.2"))
        with server.generate({**HTMX, **mine}, prompt="Slow: one", n_tokens=240):
            server.wait_for_load(1)
            for headers in (HTMX, JSON, {}):
                with server.generate({**headers, **mine}, **FIELDS) as answer:
                    assert answer.status == 429
                    assert int(answer.headers["Retry-After"]) > 0
                    assert "one client may have at once (1)" in answer.read().decode()
            body = json.dumps(COMPLETION)
            sent = {"Content-Type": "application/json", **mine}
            with server.request("POST", "/v1/completions", body, sent) as answer:
                assert answer.status == 429
                assert json.load(answer)["error"]["code"] == "rate_limit_exceeded"
            with server.generate({**JSON, **others}, **FIELDS) as answer:
                assert answer.status == 200
        server.wait_for_load(0)
        with server.generate({**JSON, **mine}, **FIELDS) as answer:
            assert answer.status == 200


# With the real Redis


@contextmanager
def redis(port: int):
    """Debian's redis-server on a port, without files."""
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ping = ["redis-cli", "-p", str(port), "ping"]
        wait_until(lambda: subprocess.run(ping, capture_output=True).stdout == b"PONG\n", "a Redis")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_processes_share_a_redis_and_go_on_without_it(tmp_path):
    port = free_port()
    settings = {
        "GPT2_RATE_LIMIT": "4 per hour",
        "GPT2_RATE_STORAGE": f"redis://127.0.0.1:{port}",
    }

    def statuses(server, n):
        found = []
        for _ in range(n):
            with server.generate(JSON, **FIELDS) as answer:
                found.append(answer.status)
        return found

    with (
        serving(tmp_path / "one.log", **settings) as one,
        serving(tmp_path / "two.log", **settings) as two,
    ):
        with redis(port):
            assert statuses(one, 3) == [200, 200, 200]
            assert statuses(two, 2) == [200, 429]
            assert statuses(one, 1) == [429]
        # The Redis is gone: each counts by itself, from nothing.
        assert statuses(one, 5) == [200, 200, 200, 200, 429]
        assert statuses(two, 1) == [200]
        for server in (one, two):
            assert len(re.findall("storage unreachable", server.log)) == 1
            assert "Traceback" not in server.log
        with redis(port):  # it is back, empty
            deadline = time.monotonic() + 60
            while statuses(one, 1) == [429]:
                assert time.monotonic() < deadline
