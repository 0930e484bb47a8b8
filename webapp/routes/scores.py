"""GET and POST /score: how probable the model finds each token of a text.

JSON for programs; for people a page to link to, complete without JavaScript, and the same scores on
the prompt's strip of the main page.
"""

from typing import Any

from flask import Blueprint, jsonify, redirect, render_template
from flask.typing import ResponseReturnValue

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError
from webapp.chips import RANK_CLASSES
from webapp.forms import Fields, parse_special_tokens
from webapp.links import short_link
from webapp.page import prompt_view, special_tokens_of
from webapp.request import (
    current_record,
    query_fields,
    request_id,
    response_kind,
    submitted_fields,
    unix_line_ends,
)
from webapp.schemas import ScoreBody
from webapp.scoring import scored_document
from webapp.services import get_model_server
from webapp.surprise import figure, surprise
from webapp.views import scored_view

blueprint = Blueprint("scores", __name__)


@blueprint.get("/score")
def page() -> ResponseReturnValue:
    """The scores of ``?prompt=…``, with a form for another text."""
    values = query_fields()
    if response_kind() == "json":
        return jsonify(scored_document(values))
    return scores_page(values)


@blueprint.post("/score")
def score() -> ResponseReturnValue:
    """The scores as JSON, or on the strip of the main page; for a form a redirect to their link,
    or the page if that is too long."""
    values, kind = submitted_fields(ScoreBody), response_kind()
    if kind == "json":
        return jsonify(scored_document(values))
    if kind == "htmx":
        return scored_strip(values)
    values["prompt"] = unix_line_ends(str(values.get("prompt", "")))
    link = short_link("scores.page", **fields_of(values))
    return redirect(link, 303) if link else scores_page(values)


def fields_of(values: Fields) -> dict[str, Any]:
    """The fields that a link to a text has."""
    return {name: values[name] for name in ("prompt", "special_tokens") if values.get(name)}


def scored_strip(values: Fields) -> str:
    """The prompt's tokens with their scores; without them, and with the reason, if there are none.

    Scores never take a slot from a text that is being generated.
    """
    view = prompt_view(str(values.get("prompt", "")), special_tokens_of(values))
    found, message = None, ""
    try:
        if get_model_server().is_busy:
            message = "Others are generating; scores are shown when there is room."
        else:
            found = surprise(scored_document(values))
            view = scored_view(view, found.tokens)
    except (InputError, Unavailable) as error:
        message = str(error)
    return render_template(
        "score/strip.html",
        view=view,
        found=found,
        message=message,
        classes=RANK_CLASSES,
        figure=figure,
    )


def scores_page(values: Fields) -> ResponseReturnValue:
    """The page; its status is 422 for an invalid text, 503 if the model is busy."""
    text = str(values.get("prompt", ""))
    found, message, status, headers = None, "", 200, {}
    try:
        parse_special_tokens(values)
        if text:
            found = surprise(scored_document(values))
    except InputError as error:
        message, status = str(error), 422
    except Unavailable as error:
        message, status = str(error), 503
        current_record().refusal = error.reason
        headers = {"Retry-After": str(error.retry_after)}
    body = render_template(
        "score/page.html",
        text=text,
        special_tokens=values.get("special_tokens"),
        found=found,
        message=message,
        reference=request_id() if status == 503 else None,
        classes=RANK_CLASSES,
        figure=figure,
        generate_link=short_link("pages.index", **fields_of(values)) if text else None,
    )
    return body, status, headers
