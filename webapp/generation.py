"""POST /tokenize and POST /generate: a prompt in; tokens, stream, JSON or page out.

Second stop of a prompt's journey: ``forms`` checks the fields, the scheduler takes the
request, and what comes back is written in the form the client asked for. Invariants:
everything is checked before the first byte is sent; when a reader leaves, its
generation is cancelled.
"""

from collections.abc import Iterator

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
    stream_with_context,
)
from werkzeug.exceptions import UnsupportedMediaType

from gpt2core.generate import GeneratedToken
from webapp import sse
from webapp.errors import response_kind
from webapp.forms import GenerationRequest, checked_prompt, parse_request
from webapp.scheduler import Failed, Generation, Queued, Unavailable
from webapp.views import Result, render_page, token_view

blueprint = Blueprint("generation", __name__)

PATIENCE = 1.0  # seconds without news before a sign of life; also how soon a closed tab shows


@blueprint.post("/tokenize")
def tokenize():
    """The text cut into tokens: the strip for the page, or JSON."""
    prompt = checked_prompt(submitted_values(), current_app.config["SETTINGS"].max_chars)
    view = token_view(prompt)
    if response_kind() == "json":
        return jsonify(n_tokens=view.n_tokens, tokens=[chip.to_json() for chip in view.chips])
    return render_template("_tokens.html", view=view)


@blueprint.post("/generate")
def generate():
    """Continue the prompt: a stream of partials, JSON, or the whole page."""
    values = submitted_values()
    scheduler = current_app.extensions["scheduler"]
    asked = parse_request(
        values, scheduler.encoder, scheduler.hparams, current_app.config["SETTINGS"].max_chars
    )
    generation = scheduler.submit(asked.ids, asked.n_tokens, asked.sampling)
    kind = response_kind()
    if kind == "htmx":
        body = stream_with_context(stream_messages(asked, generation))
        return Response(body, mimetype="text/event-stream", headers=sse.HEADERS)
    result = Result(asked, scheduler.encoder)
    for event in generation.events(PATIENCE):
        if isinstance(event, Failed):
            raise Unavailable(event.message, retry_after=1)
        if isinstance(event, GeneratedToken):
            result.add(event)
    if kind == "json":
        return jsonify(result.to_json(scheduler.model_name))
    return render_page({**values, "seed": asked.sampling.seed}, result=result)


def stream_messages(asked: GenerationRequest, generation: Generation) -> Iterator[bytes]:
    """The response of a generation, one message an event."""
    encoder = current_app.extensions["scheduler"].encoder
    result = Result(asked, encoder)
    try:
        yield sse.message(render_template("_stream_start.html", result=result))
        for event in generation.events(PATIENCE):
            if event is None:
                yield sse.HEARTBEAT
            elif isinstance(event, Queued):
                yield sse.message(render_template("_stream_queued.html", position=event.position))
            elif isinstance(event, Failed):
                yield sse.message(render_template("_problem.html", message=event.message))
            else:
                result.add(event)
                yield sse.message(render_template("_stream_token.html", result=result))
        if result.finish_reason:
            yield sse.message(render_template("_stream_end.html", result=result))
    finally:  # also when the reader left, which closes this generator
        generation.cancel()


def submitted_values() -> dict:
    """The fields of the request, from a form or a JSON object."""
    if request.is_json:
        values = request.get_json(silent=True)
        if not isinstance(values, dict):
            raise UnsupportedMediaType
        return values
    values = request.form.to_dict()
    if response_kind() == "page" and "prompt" in values:
        # A browser's own form submission writes each line end of a textarea as CR LF.
        values["prompt"] = values["prompt"].replace("\r\n", "\n")
    return values
