"""GET and POST /bpe: how byte-pair encoding got from a text to its ids, step by step.

Beside a prompt's journey: a page to link to and to project on a wall, written wholly on
the server.
"""

from flask import Blueprint, redirect, render_template, request, url_for

from gpt2core.errors import InputError
from webapp.explanation import explain
from webapp.request import response_kind
from webapp.services import get_scheduler
from webapp.snippets import MAX_LINK

blueprint = Blueprint("bpe", __name__)
EXAMPLES = (
    "Not all heroes wear capes.",
    "low lower lowest, slow slower slowest",
    "don’t DON'T don't",
    "naïve café 🤖 日本語",
    "def f(x):\n    return x + 1234567",
)


@blueprint.get("/bpe")
def page():
    """The explanation of ``?text=…``, with a form for another text."""
    return explanation_of(request.args.get("text", ""))


@blueprint.post("/bpe")
def typed():
    """The text of the form: on to the address to share, where it fits into one."""
    # A browser writes each line end of a textarea as CR LF.
    text = request.form.get("text", "").replace("\r\n", "\n")
    link = url_for(".page", text=text)
    return redirect(link, 303) if len(link) <= MAX_LINK else explanation_of(text)


def explanation_of(text: str):
    """The page for ``text``, as a response."""
    try:
        explained = explain(get_scheduler().encoder, text)
    except InputError as error:
        if response_kind() != "page":
            raise
        return render_template("bpe/page.html", text=text, message=str(error)), 422
    onward = url_for("pages.index", prompt=text)
    return render_template(
        "bpe/page.html",
        text=text,
        explained=explained,
        examples=EXAMPLES,
        onward=onward if len(onward) <= MAX_LINK else None,
    )
