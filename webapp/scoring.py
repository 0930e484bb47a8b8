"""From a text to its scores, on the model server: what the routes of scores share.

Above ``services``, below the routes. A long text is scored window by window, each a request of
its own, so that other clients get their turn between two of them.
"""

from collections.abc import Sequence
from typing import Any

from gpt2core.continuation import TextToken, text_tokens
from gpt2core.engine.events import Scored
from gpt2core.engine.scores import Scores
from gpt2core.errors import InputError
from gpt2core.score_report import score_document
from gpt2core.scoring import score_text
from webapp.forms import Fields, parse_prompt, parse_special_tokens
from webapp.generating import awaited
from webapp.services import get_model_server, get_settings
from webapp.work import current_work


def scored_document(values: Fields) -> dict[str, Any]:
    """The scores of the field ``prompt`` as JSON. Raises InputError, Unavailable."""
    prompt = parse_prompt(values, get_settings().max_chars)
    special_tokens = parse_special_tokens(values)
    if not prompt:
        raise InputError("The text is empty: type at least one character.", "prompt")
    model_server = get_model_server()
    model_server.check_encoder()
    encoder = model_server.encoder
    ids = encoder.encode(prompt, special_tokens)
    return document_of(text_tokens(encoder, prompt, ids))


def document_of(tokens: Sequence[TextToken]) -> dict[str, Any]:
    """The scores of tokens as JSON. Raises Unavailable."""
    model_server = get_model_server()
    n_ctx = model_server.hparams.n_ctx
    scores = score_text(score_window, [token.id for token in tokens], n_ctx)
    return score_document(model_server.label, model_server.precision, tokens, scores, n_ctx)


def score_window(ids: list[int], n_new: int) -> Scores:
    """The scores of the last ``n_new`` of ``ids``, which fit into the context.

    Raises Unavailable on failure, ClientDisconnected if the client left.
    """
    for event in awaited(current_work().score(ids, n_context=len(ids) - n_new)):
        if isinstance(event, Scored):
            return event.scores
    raise AssertionError("the last event is the scores or a failure")
