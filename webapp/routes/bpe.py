"""GET and POST /bpe: how byte-pair encoding gets from a text to its ids, step by step.

A page of its own, to link to and to show to a class: complete without JavaScript.
"""

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from gpt2core.errors import InputError
from webapp.explanation import explain
from webapp.forms import parse_special_tokens
from webapp.links import short_link
from webapp.request import response_kind, unix_line_ends
from webapp.services import get_model_server

blueprint = Blueprint("bpe", __name__)
EXAMPLES = (
    "Not all heroes wear capes.",
    "low lower lowest, slow slower slowest",
    "don’t DON'T don't",
    "naïve café 🤖 日本語",
    "def f(x):\n    return x + 1234567",
)


@blueprint.get("/bpe")
def page() -> ResponseReturnValue:
    """The explanation of ``?text=…``, with a form for another text."""
    return explanation_page(request.args.get("text", ""), parse_special_tokens(request.args))


@blueprint.post("/bpe")
def submitted() -> ResponseReturnValue:
    """The text of the form: a redirect to its link, or the page itself if that is too long."""
    text = unix_line_ends(request.form.get("text", ""))
    special_tokens = parse_special_tokens(request.form)
    link = short_link("bpe.page", text=text, special_tokens=field_of(special_tokens))
    return redirect(link, 303) if link else explanation_page(text, special_tokens)


def field_of(special_tokens: bool | None) -> int | None:
    """The field ``special_tokens`` of an address; None leaves it out."""
    return None if special_tokens is None else int(special_tokens)


def explanation_page(text: str, special_tokens: bool | None) -> ResponseReturnValue:
    """The page that explains ``text``; 422 if it is too long."""
    try:
        explanation = explain(get_model_server().encoder, text, special_tokens)
    except InputError as error:
        if response_kind() != "page":
            raise
        return render_template(
            "bpe/page.html", text=text, special_tokens=special_tokens, message=str(error)
        ), 422
    return render_template(
        "bpe/page.html",
        text=text,
        special_tokens=special_tokens,
        explanation=explanation,
        examples=EXAMPLES,
        generate_link=short_link(
            "pages.index", prompt=text, special_tokens=field_of(special_tokens)
        ),
    )
