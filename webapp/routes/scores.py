"""GET and POST /score: how probable the model finds each token of a text.

JSON for programs; for people a page to link to, complete without JavaScript.
"""

from flask import Blueprint, jsonify, redirect, render_template
from flask.typing import ResponseReturnValue

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError
from webapp.forms import Fields, parse_special_tokens
from webapp.links import short_link
from webapp.request import query_fields, response_kind, submitted_fields, unix_line_ends
from webapp.schemas import ScoreBody
from webapp.scoring import scored_document
from webapp.surprise import RANK_CLASSES, figure, surprise

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
    """The scores as JSON; for a form a redirect to their link, or the page if that is too long."""
    values = submitted_fields(ScoreBody)
    if response_kind() == "json":
        return jsonify(scored_document(values))
    values["prompt"] = unix_line_ends(str(values.get("prompt", "")))
    fields = {name: values[name] for name in ("prompt", "special_tokens") if values.get(name)}
    link = short_link("scores.page", **fields)
    return redirect(link, 303) if link else scores_page(values)


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
        headers = {"Retry-After": str(error.retry_after)}
    body = render_template(
        "score/page.html",
        text=text,
        special_tokens=values.get("special_tokens"),
        found=found,
        message=message,
        classes=RANK_CLASSES,
        figure=figure,
        generate_link=short_link("pages.index", prompt=text) if text else None,
    )
    return body, status, headers
