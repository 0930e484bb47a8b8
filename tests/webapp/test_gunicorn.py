"""The real server over real sockets: streams, several clients, disconnects, limits, shutdown."""

import http.client
import json
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from gpt2core.engine import processors
from tests.helpers.paced import SLOW_PACE
from tests.helpers.paths import ROOT
from tests.helpers.web import (
    HEROES,
    HTMX,
    JSON,
    PATIENCE,
    environment,
    free_port,
    messages,
    parse,
    shown,
    wait_until,
)

HTML = {"Accept": "text/html"}
PACED = {"app": "tests.helpers.paced:create_app()"}


def lines(response):
    """The lines of a stream as they arrive. Fails if it goes on too long, heartbeats included."""
    deadline = time.monotonic() + 3 * PATIENCE
    for line in response:
        assert time.monotonic() < deadline, "the stream never ends"
        yield line.decode()


def read_events(response) -> list[str]:
    """All messages of a stream, to its end."""
    return messages(lines(response))


def read_until(response, text: str) -> str:
    """What comes until ``text`` has come."""
    came = ""
    for line in lines(response):
        came += line
        if text in came:
            return came
    raise AssertionError(f"the stream ended before {text!r}")


class TestResponses:
    def test_a_stream_arrives_message_by_message(self, slow_server):
        with slow_server.generate(HTMX, prompt="Echo: one two", n_tokens=60) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["X-Accel-Buffering"] == "no"
            assert "no-cache" in response.headers["Cache-Control"]
            assert "Content-Length" not in response.headers
            read_until(response, "Ġone")
            for _ in range(10):  # these messages arrive before later ones exist
                read_until(response, "Ġtwo")
            assert slow_server.healthz()["running"]
            rest = read_events(response)
            assert len(rest) >= 30

    def test_messages_are_spread_over_the_time_of_generation(self, slow_server):
        with slow_server.generate(HTMX, prompt="Echo: one two", n_tokens=40) as response:
            times = [time.monotonic() for line in response if line == b"\n"]
        assert len(times) > 40
        assert times[-1] - times[0] > 40 * 0.03 / 4  # spread out, not all at the end

    def test_the_stream_is_well_formed_and_has_the_tokens_of_the_json(self, server):
        fields = {"prompt": f"{HEROES}\n<b>&", "n_tokens": 30, "temperature": 1, "seed": 11}
        answer = server.generate_json(**fields)
        with server.generate(HTMX, **fields) as response:
            page = shown(read_events(response))
        made = [token["id"] for token in answer["tokens"]]
        assert page.chips()[-len(made) :] == made
        assert len(page.chips()) == answer["prompt_tokens"] + len(made)
        assert page.text("continuation") == answer["text"]
        assert page.words("status").startswith("Done")
        assert page.words("problem") == ""

    def test_json_is_the_contract(self, server):
        answer = server.generate_json(prompt=HEROES, n_tokens=5, seed=3)
        assert list(answer)[:3] == ["model", "prompt", "prompt_tokens"]
        assert answer["model"] == "demo"
        assert answer["prompt"] == HEROES
        assert answer["prompt_tokens"] == 7
        assert answer["seed"] == 3
        assert answer["finish_reason"] in ("length", "endoftext")
        assert answer["tokens_per_second"] > 0
        for token in answer["tokens"]:
            assert set(token) >= {"id", "piece", "bytes", "logprob"}
            assert token["logprob"] <= 0
        data = b"".join(bytes.fromhex(token["bytes"]) for token in answer["tokens"])
        assert data.decode(errors="replace") == answer["text"]

    def test_a_json_body_is_equivalent_to_a_form(self, server):
        fields = {"prompt": HEROES, "n_tokens": 9, "temperature": 0.7, "top_k": 5, "seed": 1}
        headers = {**JSON, "Content-Type": "application/json"}
        with server.request("POST", "/generate", json.dumps(fields), headers) as response:
            answer = json.load(response)
        assert answer["text"] == server.generate_json(**fields)["text"]

    def test_a_client_of_neither_htmx_nor_json_gets_the_page(self, server):
        with server.generate(prompt=HEROES, n_tokens=3) as response:
            assert response.headers["Content-Type"].startswith("text/html")
            page = parse(response.read().decode())
        assert page.id("status").words.startswith("Done")
        assert page.id("text").text.startswith(HEROES)

    def test_an_error_of_the_model_ends_one_stream_only(self, slow_server):
        with slow_server.generate(HTMX, prompt="Echo: well", n_tokens=40) as healthy:
            read_until(healthy, "Ġwell")
            with slow_server.generate(HTMX, prompt="Fail", n_tokens=9) as response:
                page = shown(read_events(response))
            assert page.text("continuation") == "one two three"
            assert "error" in page.words("problem") + " ".join(p.words for p in page.loose)
            assert "Traceback" not in page.words("problem")
            assert sum("Ġwell" in message for message in read_events(healthy)) > 30
        with slow_server.generate(JSON, prompt="Fail", n_tokens=9) as response:
            assert response.status == 503
            assert "error" in json.load(response)

    def test_every_answer_carries_the_security_policy(self, server):
        requests = [
            ("GET", "/", None, {}), ("GET", "/static/js/main.js", None, {}),
            ("GET", "/htmx/htmx.js", None, {}), ("GET", "/healthz", None, {}),
            ("GET", "/nowhere", None, {}), ("POST", "/tokenize", {"prompt": "a"}, HTMX),
            ("POST", "/generate", {"prompt": "a", "n_tokens": 1}, HTMX),
            ("POST", "/generate", {"prompt": "a", "n_tokens": 1}, JSON),
            ("POST", "/generate", {"prompt": ""}, {}), ("PUT", "/generate", {}, {}),
        ]  # fmt: skip
        for method, path, body, headers in requests:
            with server.request(method, path, body, headers) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'self'" in policy, (method, path)
                assert "unsafe" not in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                response.read()

    def test_a_permalink_may_be_as_long_as_the_prompt_it_holds(self, server):
        with server.request("GET", "/?prompt=" + "+word" * 1500) as response:
            assert response.status == 200


class TestClients:
    def test_concurrent_clients_each_get_their_own_text(self, server):
        prompts = [HEROES, "Once upon a time", "naïve 日本", "The old king said"]

        def ask(prompt):
            return server.generate_json(prompt=prompt, n_tokens=20, temperature=1, seed=5)

        def stream(prompt):
            fields = {"prompt": prompt, "n_tokens": 20, "temperature": 1, "seed": 5}
            with server.generate(HTMX, **fields) as response:
                return shown(read_events(response)).text("continuation")

        alone = [ask(prompt)["text"] for prompt in prompts]
        with ThreadPoolExecutor(8) as pool:
            streams = list(pool.map(stream, prompts * 2))
        assert streams == alone * 2

    def test_a_closed_connection_cancels_the_generation(self, slow_server):
        begun = time.monotonic()
        with slow_server.generate(HTMX, prompt="Slow: and", n_tokens=250) as response:
            slow_server.wait_for_load(1)
            read_until(response, 'hx-swap="beforeend"')
        slow_server.wait_for_load(0)
        assert time.monotonic() - begun < 250 * SLOW_PACE  # long before the text would have ended

    def test_a_closed_connection_cancels_a_json_request(self, slow_server):
        begun = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", slow_server.port, timeout=PATIENCE)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        client.request("POST", "/generate", "prompt=Slow:+and&n_tokens=250", {**JSON, **kind})
        wait_until(lambda: slow_server.healthz()["running"], "the work")
        client.close()
        slow_server.wait_for_load(0)
        assert time.monotonic() - begun < 250 * SLOW_PACE

    def test_a_full_queue_is_answered_with_retry_after(self, own_server):
        settings = {
            "GPT2_MAX_BATCH": 1,
            "GPT2_MAX_QUEUE": 1,
            "GPT2_MAX_PER_CLIENT": 9,
            "TEST_PACE": 0.03,
        }
        with own_server(**PACED, **settings) as server:
            with server.generate(HTMX, prompt="Slow: one", n_tokens=240) as first:
                server.wait_for_load(1)
                with server.generate(HTMX, prompt="Echo: two", n_tokens=2) as second:
                    read_until(second, "in line")
                    server.wait_for_load(1, 1)
                    for headers in (HTMX, JSON, {}):
                        with server.generate(headers, prompt="Echo: three") as third:
                            assert third.status == 503
                            assert int(third.headers["Retry-After"]) > 0
                            assert "try again" in third.read().decode()
                    first.close_connection()  # the second one gets the slot
                    page = shown(read_events(second))
                    assert page.text("continuation") == " two two"
            server.wait_for_load(0)

    def test_a_waiting_client_that_disconnects_leaves_the_queue(self, own_server):
        settings = {
            "GPT2_MAX_BATCH": 1,
            "GPT2_MAX_QUEUE": 2,
            "GPT2_MAX_PER_CLIENT": 9,
            "TEST_PACE": 0.03,
        }
        with own_server(**PACED, **settings) as server:
            with server.generate(HTMX, prompt="Slow: one", n_tokens=250):
                server.wait_for_load(1)
                with server.generate(HTMX, prompt="Echo: two") as second:
                    server.wait_for_load(1, 1)
                    with server.generate(HTMX, prompt="Echo: three") as third:
                        read_until(third, "Number 2 in line")
                        second.close_connection()
                        read_until(third, "Next in line")
                        assert server.healthz()["waiting"] == 1


class TestConfiguration:
    def test_workers_divide_the_processors_however_their_number_was_set(self, monkeypatch):
        monkeypatch.delenv(processors.THREADS_VARIABLE, raising=False)
        monkeypatch.setattr(processors, "n_processors", lambda: 8)
        made = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
        monkeypatch.setenv(processors.THREADS_VARIABLE, "")  # so that it is restored
        made["on_starting"](SimpleNamespace(cfg=SimpleNamespace(workers=4)))
        assert processors.n_threads() == 2

    @pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "GPT2_THREADS", "GPT2_MAX_BATCH"])
    def test_an_invalid_setting_stops_the_start_with_a_sentence(self, name, monkeypatch):
        monkeypatch.setenv(name, "many")
        with pytest.raises(SystemExit, match=f"^{name} is 'many'; it must be a whole number"):
            runpy.run_path(str(ROOT / "gunicorn.conf.py"))


class TestProcess:
    def test_the_procfile_serves_on_the_port_it_is_given(self, own_server):
        (line,) = (ROOT / "Procfile").read_text().splitlines()
        kind, _, command = line.partition(": ")
        assert kind == "web"
        with own_server(command=command, WEB_CONCURRENCY=2) as server:
            wait_until(lambda: server.log.count("Booting worker") == 2, "two workers")
            wait_until(
                lambda: all(server.healthz()["status"] == "ok" for _ in range(8)), "both ready"
            )
            assert f":{server.port}" in server.log
            assert re.search("BufferingWorker", server.log)
            texts = {server.generate_json(prompt=HEROES, seed=1)["text"] for _ in range(4)}
            assert len(texts) == 1  # the same from every worker

    def test_sigterm_lets_a_stream_finish(self, own_server):
        with own_server(**PACED, TEST_PACE=0.03) as server:
            with server.generate(HTMX, prompt="Echo: and", n_tokens=60) as response:
                read_until(response, "Ġand")
                stopping = threading.Thread(target=server.stop)
                stopping.start()
                rest = read_events(response)
                stopping.join()
            assert "Done" in rest[-1] or "Done" in rest[-2]
            assert server.process.returncode == 0
            assert "Traceback" not in server.log

    @pytest.mark.parametrize(
        ("name", "value"), [("GPT2_MAX_BATCH", "none"), ("GPT2_MAX_QUEUE", "-1")]
    )
    def test_a_bad_setting_stops_the_process_with_a_sentence(self, name, value):
        ended = subprocess.run(
            [sys.executable, "-m", "gunicorn", "webapp:create_app()"],
            cwd=ROOT,
            env=environment(PORT=free_port(), **{name: value}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode != 0
        assert f"{name} is {value!r}; it must be a whole number" in ended.stderr

    def test_flask_can_serve_it_where_gunicorn_does_not_run(self, own_server):
        port = free_port()
        command = f"flask --app webapp run --port {port}"
        with own_server(command=command, PORT=port) as server:
            with server.generate(HTMX, prompt=HEROES, n_tokens=5) as response:
                page = shown(read_events(response))
            assert page.words("status").startswith("Done")


def test_a_client_that_closes_its_sending_side_gets_the_answer(slow_server):
    body = b'{"prompt": "Echo: all", "n_tokens": 60}'  # seconds, so the end of sending is seen
    head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Connection: close\r\nContent-Type: application/json\r\n\r\n"
    with socket.create_connection(("127.0.0.1", slow_server.port), timeout=PATIENCE) as client:
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    interim, final = answer.split(b"\r\n\r\n", 1)
    assert interim == b"HTTP/1.1 100 Continue"
    assert final.startswith(b"HTTP/1.1 200 ")
    assert json.loads(final.split(b"\r\n\r\n", 1)[1])["text"] == 60 * " all"


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("nul \0 inside", 200),
        ("half a sign \ud800", 200),
        ("\udcff\ud83d", 200),
        ("\N{ROBOT FACE}" * 9, 200),
        (" " * 10_000, 422),
        ("a" * 100_000, 422),
        ("a" * 100_001, 422),
        ("\r\n\r a\u2028b\x0b\x0c\x1b[31m", 200),
        ("<|endoftext|>", 200),
        ("", 422),
    ],
    ids=lambda value: ascii(value)[:20],
)
@pytest.mark.parametrize("headers", [HTMX, JSON, HTML], ids=["stream", "json", "page"])
def test_any_text_is_answered_in_every_form(server, prompt, status, headers):
    body = json.dumps({"prompt": prompt, "n_tokens": 3, "seed": 1})
    sent = {"Content-Type": "application/json", **headers}
    with server.request("POST", "/generate", body, sent) as response:
        assert response.status == status
        text = response.read().decode("utf-8")
    if headers is JSON:
        assert ("error" in json.loads(text)) == (status == 422)
    elif status == 422:
        assert parse(text).all()
    elif headers is HTMX:
        assert shown(messages(text.split("\n")[:-1])).words("status").startswith("Done")
    else:
        assert parse(text).id("status").words.startswith("Done")
    assert "Traceback" not in server.log
