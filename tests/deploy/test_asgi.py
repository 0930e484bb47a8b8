"""The page under an ASGI server: whole bodies, clients that leave, the page's own answers."""

import asyncio
import json
import threading
from urllib.parse import urlencode

import pytest

from deploy.asgi import StreamingMiddleware
from gpt2core.engine import scheduler
from tests.helpers.paced import PacedSequence
from tests.helpers.web import HTMX, JSON, PATIENCE, STORY, messages, shown, wait_until


def scope(path="/", headers=(), method="POST") -> dict:
    """A request as an ASGI server describes it."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in dict(headers).items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "http_version": "1.1",
        "headers": pairs,
        "client": ("203.0.113.1", 1),
    }


def chunks(*parts: bytes, ends: bool = True):
    """An ASGI ``receive`` for a body in these parts; without ``ends`` more never comes."""
    waiting = list(parts)

    async def receive() -> dict:
        if not waiting:
            await asyncio.Event().wait()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting) or not ends}

    return receive


class Call:
    """One call of an ASGI app, in an event loop of its own thread."""

    def __init__(self, app, scope: dict, receive):
        self.sent, self._loop = [], asyncio.new_event_loop()

        async def send(message):
            self.sent.append(message)

        async def call():
            await app(scope, receive, send)

        self._task = self._loop.create_task(call())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def leave(self) -> None:
        """What Ray Serve does when the client leaves."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE)

    def answer(self) -> tuple[int, bytes]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        body = b"".join(message.get("body", b"") for message in self.sent)
        return self.sent[0]["status"], body


@pytest.fixture
def asgi(app):
    """The page with the bundled model, nothing running."""
    wrapped = StreamingMiddleware(app, 4, app.config["MAX_CONTENT_LENGTH"])
    yield wrapped
    wrapped.executor.shutdown()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def form(**fields) -> bytes:
    return urlencode({"prompt": STORY, "seed": 1, **fields}).encode()


def text_of(stream: bytes) -> str:
    return shown(messages(stream.decode().splitlines(keepends=True))).text("continuation")


def test_a_stream_is_the_pages_own(asgi, client):
    body = form(n_tokens=20)
    status, stream = Call(asgi, scope("/generate", {**HTMX, **FORM}), chunks(body)).answer()
    expected = client.post("/generate", data=body, headers={**HTMX, **FORM})
    assert status == 200
    assert text_of(stream) == text_of(expected.data) != ""


@pytest.mark.parametrize("headers", [HTMX, JSON], ids=["stream", "json"])
def test_a_client_that_leaves_frees_its_place(asgi, app, headers, monkeypatch):
    monkeypatch.setattr(scheduler, "Sequence", PacedSequence)
    model_server = app.extensions["model_server"]
    body = form(prompt="Slow: on", n_tokens=240)
    call = Call(asgi, scope("/generate", {**headers, **FORM}), chunks(body))
    wait_until(lambda: model_server.load["running"] == 1, "a text that runs")
    call.leave()
    wait_until(lambda: model_server.load["running"] == 0, "nothing running")
    asgi.executor.shutdown(wait=True)  # no thread waits for ever


def test_a_body_in_parts_is_one(asgi):
    body = json.dumps({"prompt": "Not all"}).encode()
    headers = {"Content-Type": "application/json"}  # and no length
    status, answer = Call(asgi, scope("/tokenize", headers), chunks(body[:5], body[5:])).answer()
    assert status == 200
    assert json.loads(answer)["n_tokens"] == 2


def test_a_body_that_is_too_long_is_refused_before_its_end(asgi, app):
    body = b"prompt=" + b"a" * app.config["MAX_CONTENT_LENGTH"]
    for length, refusal in ({"Content-Length": str(len(body) + 1)}, 413), ({}, 422):
        request = scope("/tokenize", {**JSON, **FORM, **length})
        assert Call(asgi, request, chunks(body, ends=False)).answer()[0] == refusal


def test_a_body_that_never_comes_costs_no_thread(asgi):
    halves = [
        Call(asgi, scope("/tokenize", FORM), chunks(b"prompt=", ends=False)) for _ in range(8)
    ]
    status, _ = Call(asgi, scope("/healthz", method="GET"), chunks(b"")).answer()
    assert status == 200
    for half in halves:
        half.leave()
        assert half.sent == []


def test_a_client_that_leaves_in_its_body_is_answered_nothing(asgi):
    async def gone() -> dict:
        return {"type": "http.disconnect"}

    call = Call(asgi, scope("/tokenize", FORM), gone)
    call._thread.join(PATIENCE)
    assert call.sent == []
