"""From the fields of a form to a finished generation: what several routes do.

Above ``forms`` and ``views``, below the routes.
"""

from collections.abc import Generator
from contextlib import closing
from typing import Any

from werkzeug.exceptions import ClientDisconnected

from gpt2core.engine.events import Failed, Generation, Request, Unavailable
from gpt2core.engine.sequence import DEFAULT_OPTIONS, GeneratedToken, GenerationOptions
from webapp.forms import Fields, GenerationRequest, parse_request
from webapp.request import client_left
from webapp.services import get_model_server, get_settings
from webapp.views import GenerationView
from webapp.work import current_work

HEARTBEAT_SECONDS = 1.0  # silence before a heartbeat; also how soon a closed tab is noticed


def check(values: Fields) -> GenerationRequest:
    """The fields as a request the model can take. Raises FormErrors."""
    model_server, max_chars = get_model_server(), get_settings().max_chars
    model_server.check_encoder()
    return parse_request(values, model_server.encoder, model_server.hparams, max_chars)


def submit(request: GenerationRequest, options: GenerationOptions = DEFAULT_OPTIONS) -> Generation:
    """Hand a request to the model server. Raises Unavailable."""
    ids = request.ids + request.kept
    return current_work().submit(ids, request.n_tokens, request.sampling, options)


def new_view(request: GenerationRequest) -> GenerationView:
    """The view of a run that has no token yet."""
    model_server = get_model_server()
    return GenerationView(request, model_server.encoder, model_server.hparams.n_ctx)


def finished_generation(request: GenerationRequest) -> GenerationView:
    """Generate to the end. Raises Unavailable on failure, ClientDisconnected if the client left."""
    view, handle = new_view(request), submit(request)
    with closing(awaited(handle)) as events:
        for event in events:
            if isinstance(event, GeneratedToken):
                view.add(event)
            if view.finish_reason:  # perhaps a stop string, before the last token
                handle.cancel(view.finish_reason)
                break
    return view


def awaited(handle: Request[Any]) -> Generator[Any]:
    """The events of a request, and None after a second of silence. Cancels it when it is closed.

    Raises Unavailable on failure, ClientDisconnected if the client left.
    """
    try:
        for event in handle.events(HEARTBEAT_SECONDS):
            if isinstance(event, Failed):
                raise Unavailable(event.message, retry_after=1)
            yield event
            if client_left():
                raise ClientDisconnected
    finally:
        handle.cancel()
