"""POST /tokenize, /next and /generate: a prompt in; tokens, stream, JSON or page out.

Second stop of a prompt's journey: ``forms`` checks the fields, the scheduler takes the
request, and what comes back is written in the form the client asked for. Invariants:
everything is checked before the first byte is sent; when a reader leaves, its
generation is cancelled.
"""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

from flask import (
    Blueprint,
    Response,
    jsonify,
    render_template,
    request,
    stream_with_context,
)
from werkzeug.exceptions import ClientDisconnected

from gpt2core.engine.events import Failed, Generation, Prefilling, Queued, Unavailable
from gpt2core.engine.sequence import GeneratedToken
from webapp import sse
from webapp.forms import FormErrors, GenerationRequest, checked_prompt, parse_request
from webapp.page import render_page, token_view
from webapp.request import response_kind, submitted_values
from webapp.services import get_scheduler, get_settings
from webapp.views import Result

blueprint = Blueprint("generation", __name__)

BARS_EVERY = 0.25  # seconds between two pictures of the newest token's candidates
PATIENCE = 1.0  # seconds without news before a sign of life; also how soon a closed tab shows


@blueprint.post("/tokenize")
def tokenize():
    """The text cut into tokens: the strip for the page, JSON, or the whole page."""
    values, kind = submitted_values(), response_kind()
    prompt = checked_prompt(values, get_settings().max_chars)
    if kind == "page":  # the button for those without JavaScript
        return render_page(values)
    view = token_view(prompt)
    if kind == "json":
        return jsonify(n_tokens=view.n_tokens, tokens=[chip.to_json() for chip in view.chips])
    return render_template("parts/tokens.html", view=view)


@blueprint.post("/next")
def next_token():
    """The candidates for the token that follows the prompt, before and after the controls.

    A courtesy to those who type: it never takes a place from those who generate. Nobody
    pressed a button, so a half-typed form or a busy model is a hint here, and no error.
    """
    if get_scheduler().is_busy:
        hint = "Others are generating; candidates are shown when there is room."
        return render_template("parts/next.html", hint=hint)
    try:
        asked = replace(checked_request(submitted_values()), n_tokens=1)
        result = finished_result(asked)
    except FormErrors:
        hint = "The model’s best guesses appear here once there is a prompt it can take."
        return render_template("parts/next.html", hint=hint)
    except Unavailable as error:
        return render_template("parts/next.html", hint=str(error))
    return render_template("parts/next.html", bars=result.steps[-1].chip.bars, kept=asked.kept)


@blueprint.post("/generate")
def generate():
    """Continue the prompt: a stream of partials, JSON, or the whole page."""
    values = submitted_values()
    asked = checked_request(values)
    kind = response_kind()
    if kind == "htmx":
        messages = stream_messages(asked, submit(asked))
        return Response(
            stream_with_context(messages), mimetype="text/event-stream", headers=sse.HEADERS
        )
    result = finished_result(asked)
    if kind == "json":
        return jsonify(result.to_json(get_scheduler().label))
    # The seed stays as it was typed: an empty one gives another text each time.
    return render_page({**values, "kept": ""}, result=result)


def checked_request(values: dict) -> GenerationRequest:
    """The fields as a request the model can take. Raises FormErrors."""
    scheduler = get_scheduler()
    max_chars = get_settings().max_chars
    return parse_request(values, scheduler.encoder, scheduler.hparams, max_chars)


def new_result(asked: GenerationRequest) -> Result:
    """What a request grows into, empty yet."""
    scheduler = get_scheduler()
    return Result(asked, scheduler.encoder, scheduler.hparams.n_ctx)


def submit(asked: GenerationRequest) -> Generation:
    """Hand a request to the scheduler. Raises Unavailable."""
    scheduler = get_scheduler()
    return scheduler.submit(asked.ids + asked.kept, asked.n_tokens, asked.sampling)


def finished_result(asked: GenerationRequest) -> Result:
    """Generate to the end, or until the reader leaves."""
    result = new_result(asked)
    generation = submit(asked)
    try:
        for event in generation.events(PATIENCE):
            if isinstance(event, Failed):
                raise Unavailable(event.message, retry_after=1)
            if isinstance(event, GeneratedToken):
                result.add(event)
            if reader_left():
                raise ClientDisconnected
    finally:
        generation.cancel()
    return result


def reader_left() -> bool:
    """Whether the client has closed its side, where the server lets us look (gunicorn)."""
    client = request.environ.get("gunicorn.socket")
    if client is None:
        return False
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False  # it is there, and says nothing
    except ValueError:
        return False  # encrypted (gunicorn's own TLS), so nobody can look without reading
    except OSError:
        return True


def stream_messages(asked: GenerationRequest, generation: Generation) -> Iterator[bytes]:
    """The response of a generation, one message an event."""

    def message(template: str, **context) -> bytes:
        return sse.message(render_template(template, result=result, **context))

    bars_at = 0.0  # when the candidates were last sent
    try:
        result = new_result(asked)
        yield message("stream/start.html")
        for event in generation.events(PATIENCE):
            if event is None:
                yield sse.HEARTBEAT
            elif isinstance(event, Queued):
                yield message("stream/queued.html", position=event.position)
            elif isinstance(event, Prefilling):
                yield message("stream/reading.html", reading=event)
            elif isinstance(event, Failed):
                yield message("stream/failed.html", message=event.message)
            else:
                result.add(event)
                # Ten rows of bars a token are more than eyes and browsers can follow.
                with_bars = time.monotonic() - bars_at >= BARS_EVERY
                bars_at = time.monotonic() if with_bars else bars_at
                yield message("stream/token.html", step=result.steps[-1], with_bars=with_bars)
        if result.finish_reason:
            yield message("stream/end.html")
    finally:  # also when something fails, or the reader left, which closes this generator
        generation.cancel()
