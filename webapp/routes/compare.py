"""GET and POST /compare: two texts' tokens over each other. Complete without JavaScript."""

from collections.abc import Mapping

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from gpt2core.errors import InputError
from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.comparison import compare, side
from webapp.cut import Cut
from webapp.links import short_link
from webapp.request import response_kind, unix_line_ends
from webapp.services import get_model_server

blueprint = Blueprint("compare", __name__)
FIELDS = {"a": "First text", "b": "Second text"}
EXAMPLES = (
    ("Once upon a time", "once upon a time "),
    ("I definitely agree", "I definately agree"),
    ("The price is 12345", "The price is 12,345"),
)


@blueprint.get("/compare")
def page() -> ResponseReturnValue:
    """The comparison of ``?a=…&b=…``, with a form for other texts."""
    return comparison_page(texts_of(request.args))


@blueprint.post("/compare")
def submitted() -> ResponseReturnValue:
    """The form's texts: a redirect to their link, or the page itself if that is too long."""
    texts = {name: unix_line_ends(text) for name, text in texts_of(request.form).items()}
    link = short_link("compare.page", **texts)
    return redirect(link, 303) if link else comparison_page(texts)


def texts_of(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: replace_surrogates(fields.get(name, "")) for name in FIELDS}


def comparison_page(texts: dict[str, str]) -> ResponseReturnValue:
    """The page; 422 if a text is too long. Nothing is compared unless there are two texts."""
    encoder = get_model_server().encoder
    sides: dict[str, Cut] = {}
    messages: dict[str, str] = {}
    for name, text in texts.items():
        try:
            sides[name] = side(encoder, text, name)
        except InputError as error:
            if response_kind() != "page":
                raise
            messages[name] = str(error)
    is_complete = not messages and all(texts.values())
    body = render_template(
        "compare/page.html",
        fields=FIELDS,
        texts=texts,
        messages=messages,
        found=compare(sides["a"], sides["b"]) if is_complete else None,
        missing=[name for name, text in texts.items() if not text],
        examples=EXAMPLES,
    )
    return body, 422 if messages else 200
