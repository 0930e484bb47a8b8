"""POST /tokenize, /next, /append and /generate: a prompt in; tokens, stream, JSON or page out.

``forms`` checks the fields, the model server generates, and the response has the form the client
asked for. Invariants: everything is checked before the first byte is sent; when a client
leaves, its generation is cancelled.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from flask import Blueprint, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from gpt2core.continuation import tokens_to_json
from gpt2core.engine.events import Failed, Generation, Prefilling, Prepared, Queued, Unavailable
from gpt2core.engine.sequence import GenerationOptions
from gpt2core.errors import InputError
from gpt2core.sampling import N_CANDIDATES
from webapp import sse
from webapp.forms import (
    PACES,
    STEP,
    Fields,
    FormErrors,
    GenerationRequest,
    parse_flag,
    parse_pace,
    parse_prompt,
    parse_special_tokens,
)
from webapp.generating import HEARTBEAT_SECONDS, check, finished_generation, new_view, submit
from webapp.page import prompt_messages, prompt_view, render_page, special_tokens_of
from webapp.request import response_kind, submitted_fields
from webapp.schemas import GenerateBody, NextBody, TokenizeBody
from webapp.services import get_model_server, get_settings
from webapp.streaming import event_stream
from webapp.token_messages import TokenMessages
from webapp.views import GenerationView

blueprint = Blueprint("stream", __name__)


@blueprint.post("/tokenize")
def tokenize() -> ResponseReturnValue:
    """The text cut into tokens: the strip for the page, JSON, or the whole page."""
    values, kind = submitted_fields(TokenizeBody), response_kind()
    if kind == "json" and "prompt" not in values:
        raise InputError('There is no text: send {"prompt": "…"}.', "prompt")
    if kind == "htmx":
        return tokens_partial(values)
    prompt = parse_prompt(values, get_settings().max_chars)
    if kind == "json":  # a program takes ids for the model's own
        get_model_server().check_encoder()
    if kind == "page":  # the button for browsers without JavaScript
        return render_page(values)
    return jsonify(
        tokens_to_json(
            [chip.token for chip in prompt_view(prompt, parse_special_tokens(values)).chips]
        )
    )


def tokens_partial(values: Fields) -> str:
    """The tokens of the prompt for the page: of one that is too long, those of its beginning."""
    view = prompt_view(str(values.get("prompt", "")), special_tokens_of(values))
    messages = prompt_messages(values, view)
    # The scores of a short text follow its tokens, as long as they are switched on.
    follow = bool(values.get("scores")) and 1 < view.n_tokens <= view.n_ctx
    return render_template("stream/tokens.html", view=view, messages=messages, scores_follow=follow)


@blueprint.post("/next")
def next_token() -> ResponseReturnValue:
    """The candidates for the token after the prompt, before and after temperature and so on.

    The page asks for them whenever typing pauses, so they never take a slot from a text
    that is being generated, and an invalid form or a busy model is a hint, not an error.
    JSON waits in the queue as a generation does.
    """
    values = submitted_fields(NextBody)
    if response_kind() == "json":
        model_server = get_model_server()
        view = only_next(values)
        return jsonify(view.candidates_to_json(model_server.label, model_server.precision))
    if get_model_server().is_busy:
        hint = "Others are generating; candidates are shown when there is room."
        return render_template("parts/next.html", hint=hint, ask_again=True)
    if not values.get("prompt"):
        hint = "The model’s best guesses appear here once there is a text to continue."
        return render_template("parts/next.html", hint=hint)
    try:
        view = only_next(values)
    except FormErrors as error:
        # What is wrong with the prompt stands beside it.
        messages = {name: said for name, said in error.by_field().items() if name != "prompt"}
        hint = " ".join(messages.values()) or "There are no candidates for this text."
        return render_template("parts/next.html", hint=hint, messages=messages)
    except Unavailable as error:
        return render_template("parts/next.html", hint=str(error), ask_again=True)
    rows = view.steps[-1].chip.candidates[:N_CANDIDATES]
    candidates = [replace(row, is_chosen=False) for row in rows]  # the drawn token is not shown
    return render_template(
        "parts/next.html",
        generation=view,
        candidates=candidates,
        candidates_json=[row.to_json() for row in candidates],
    )


def only_next(values: Fields) -> GenerationView:
    """One token after the prompt, with its candidates. Raises FormErrors and Unavailable."""
    return finished_generation(replace(check(values), n_tokens=1, stop=()))


@blueprint.post("/append")
def append() -> ResponseReturnValue:
    """The prompt with its kept tokens, the last of which was chosen by hand: text and chips.

    Nothing is generated, so this also works while others generate.
    """
    values = submitted_fields(GenerateBody)
    request = check(values)
    if not request.kept:
        raise InputError("No token was chosen: send its id in the field “kept”.", "kept")
    view = new_view(request)
    if response_kind() == "htmx":
        return render_template("stream/append.html", generation=view)
    return render_page(values)


@blueprint.post("/generate")
def generate() -> ResponseReturnValue:
    """Continue the prompt: a stream of partials, JSON, or the whole page."""
    values, kind = submitted_fields(GenerateBody), response_kind()
    request, pace = check(values), "full"
    if kind != "json":
        pace = parse_pace(values)
        request = replace(request, n_tokens=1) if pace == STEP else request
    if kind == "htmx":
        tokens = TokenMessages(new_view(request), current_app.jinja_env)
        handle = submit(request, GenerationOptions(prepare=tokens.add))
        return event_stream(stream_messages(request, handle, tokens, PACES[pace]))
    generation = finished_generation(request)
    if kind == "json":
        model_server = get_model_server()
        return jsonify(generation.to_json(model_server.label, model_server.precision))
    # The field seed stays as it was sent, unless another seed was asked for.
    seed = "" if parse_flag(values, "regenerate") else values.get("seed", "")
    return render_page({**values, "kept": "", "seed": seed}, generation=generation)


def stream_messages(
    request: GenerationRequest, handle: Generation, tokens: TokenMessages, token_seconds: float
) -> Iterator[bytes]:
    """The response of a generation: server-sent events, one for each event of the generation.

    Tokens are at least ``token_seconds`` apart. The model server does not wait for that.
    """
    next_token_at = 0.0  # time.monotonic()
    try:
        view = new_view(request)  # not that of the tokens, which may have begun to grow
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
            elif isinstance(event, Prepared):
                wait = next_token_at - time.monotonic()
                if wait > 0:  # sleep(0) would wait for the interpreter's lock
                    time.sleep(wait)
                next_token_at = time.monotonic() + token_seconds
                messages, finish_reason = event.take()
                if messages:
                    yield messages
                if finish_reason:
                    handle.cancel(finish_reason)
                    yield message("stream/end.html", tokens.view)
                    break
    except Exception:  # rendering has failed
        handle.cancel("failed")
        raise
    finally:  # also when the client leaves, which closes this generator
        handle.cancel()


def message(template: str, view: GenerationView, **context: object) -> bytes:
    """One server-sent event: a template of partials about ``view``."""
    return sse.message(render_template(template, generation=view, **context))
