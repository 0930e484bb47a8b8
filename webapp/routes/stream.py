"""POST /tokenize, /next and /generate: a prompt in; tokens, stream, JSON or page out.

``forms`` checks the fields, the model server generates, and the response has the form the client
asked for. Invariants: everything is checked before the first byte is sent; when a client
leaves, its generation is cancelled.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from flask import Blueprint, Response, jsonify, render_template, stream_with_context
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ClientDisconnected

from gpt2core.continuation import tokens_to_json
from gpt2core.engine.events import Failed, Generation, Prefilling, Queued, Unavailable
from gpt2core.engine.sequence import GeneratedToken
from webapp import sse
from webapp.forms import (
    Fields,
    FormErrors,
    GenerationRequest,
    parse_prompt,
    parse_request,
    parse_special_tokens,
)
from webapp.page import prompt_view, render_page
from webapp.request import client_left, response_kind, submitted_fields
from webapp.services import get_model_server, get_settings
from webapp.views import GenerationView

blueprint = Blueprint("stream", __name__)

CANDIDATES_INTERVAL = 0.25  # seconds between two updates of the newest token's candidates
HEARTBEAT_SECONDS = 1.0  # silence before a heartbeat; also how soon a closed tab is noticed


@blueprint.post("/tokenize")
def tokenize() -> ResponseReturnValue:
    """The text cut into tokens: the strip for the page, JSON, or the whole page."""
    values, kind = submitted_fields(), response_kind()
    prompt = parse_prompt(values, get_settings().max_chars)
    if kind == "json":  # a program takes ids for the model's own
        get_model_server().check_encoder()
    if kind == "page":  # the button for browsers without JavaScript
        return render_page(values)
    view = prompt_view(prompt, parse_special_tokens(values))
    if kind == "json":
        return jsonify(tokens_to_json([chip.token for chip in view.chips]))
    return render_template("parts/tokens.html", view=view)


@blueprint.post("/next")
def next_token() -> ResponseReturnValue:
    """The candidates for the token after the prompt, before and after temperature and so on.

    The page asks for them whenever typing pauses, so they never take a slot from a text
    that is being generated, and an invalid form or a busy model is a hint, not an error.
    """
    if get_model_server().is_busy:
        hint = "Others are generating; candidates are shown when there is room."
        return render_template("parts/next.html", hint=hint)
    try:
        generation = finished_generation(replace(check(submitted_fields()), n_tokens=1))
    except FormErrors:
        hint = "The model’s best guesses appear here once there is a prompt it can take."
        return render_template("parts/next.html", hint=hint)
    except Unavailable as error:
        return render_template("parts/next.html", hint=str(error))
    candidates = generation.steps[-1].chip.candidates
    return render_template("parts/next.html", candidates=candidates, kept=generation.kept)


@blueprint.post("/generate")
def generate() -> ResponseReturnValue:
    """Continue the prompt: a stream of partials, JSON, or the whole page."""
    values, kind = submitted_fields(), response_kind()
    request = check(values)
    if kind == "htmx":
        messages = stream_messages(request, submit(request))
        return Response(
            stream_with_context(messages), mimetype="text/event-stream", headers=sse.HEADERS
        )
    generation = finished_generation(request)
    if kind == "json":
        return jsonify(generation.to_json(get_model_server().label))
    # The field seed stays as it was sent: an empty one gives another text each time.
    return render_page({**values, "kept": ""}, generation=generation)


def check(values: Fields) -> GenerationRequest:
    """The fields as a request the model can take. Raises FormErrors."""
    model_server, max_chars = get_model_server(), get_settings().max_chars
    model_server.check_encoder()
    return parse_request(values, model_server.encoder, model_server.hparams, max_chars)


def submit(request: GenerationRequest) -> Generation:
    """Hand a request to the model server. Raises Unavailable."""
    ids = request.ids + request.kept
    return get_model_server().submit(ids, request.n_tokens, request.sampling)


def new_view(request: GenerationRequest) -> GenerationView:
    """The view of a run that has no token yet."""
    model_server = get_model_server()
    return GenerationView(request, model_server.encoder, model_server.hparams.n_ctx)


def finished_generation(request: GenerationRequest) -> GenerationView:
    """Generate to the end. Raises Unavailable on failure, ClientDisconnected if the client left."""
    view = new_view(request)
    handle = submit(request)
    try:
        for event in handle.events(HEARTBEAT_SECONDS):
            if isinstance(event, Failed):
                raise Unavailable(event.message, retry_after=1)
            if isinstance(event, GeneratedToken):
                view.add(event)
            if client_left():
                raise ClientDisconnected
    finally:
        handle.cancel()
    return view


def stream_messages(request: GenerationRequest, handle: Generation) -> Iterator[bytes]:
    """The response of a generation: server-sent events, one for each event of the generation."""
    candidates_sent = 0.0  # seconds of the clock
    try:
        view = new_view(request)
        yield message("stream/start.html", view)
        for event in handle.events(HEARTBEAT_SECONDS):
            if event is None:
                yield sse.HEARTBEAT
            elif isinstance(event, Queued):
                yield message("stream/queued.html", view, position=event.position)
            elif isinstance(event, Prefilling):
                yield message("stream/reading.html", view, reading=event)
            elif isinstance(event, Failed):
                yield message("stream/failed.html", view, message=event.message)
            else:
                step = view.add(event)
                # Ten rows for every token are more than browsers draw and readers follow.
                now = time.monotonic()
                is_due = now - candidates_sent >= CANDIDATES_INTERVAL
                if is_due:
                    candidates_sent = now
                yield message("stream/token.html", view, step=step, with_candidates=is_due)
        if view.finish_reason:
            yield message("stream/end.html", view)
    finally:  # also when rendering fails, or the client leaves, which closes this generator
        handle.cancel()


def message(template: str, view: GenerationView, **context: object) -> bytes:
    """One server-sent event: a template of partials about ``view``."""
    return sse.message(render_template(template, generation=view, **context))
