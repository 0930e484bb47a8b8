"""GET /inside and /inside/1 … 18: a recorded pass of the model over a text, step by step.

Every view is a GET address; POST /inside only turns a typed text into one. Passes are recorded
by ``webapp.inside.recordings``. GET /source/model.py is the file that ran, each line with its
address.
"""

from flask import abort, redirect, render_template
from flask.typing import ResponseReturnValue

from webapp.inside.page import inside_blueprint, opened_view, parsed, show
from webapp.inside.source import file_lines
from webapp.inside.steps.registry import STEPS
from webapp.inside.view import open_view
from webapp.request import query_fields, submitted_fields
from webapp.services import get_model_server, get_recordings

blueprint = inside_blueprint("inside")
FIRST_LAYER = 0  # of an address without one; step 14 says that the other layers do the same


@blueprint.get("/inside")
def overview() -> str:
    """The map: all steps with this text's shapes and one figure each."""
    view = opened_view(FIRST_LAYER)
    glances = [(step, step.glance(view)) for step in STEPS]
    return show("inside/overview.html", view, glances=glances)


@blueprint.post("/inside")
def typed() -> ResponseReturnValue:
    """The text of the form: on to its address."""
    model = get_model_server().loaded_model()
    query = parsed(model, submitted_fields())
    view = open_view("inside.overview", {}, model, query, get_recordings())
    return redirect(view.link(at=None, layer=None, head=None), 303)


@blueprint.get("/inside/<int:number>")
def step(number: int) -> str:
    """One step."""
    if not 1 <= number <= len(STEPS):
        abort(404)
    view, chosen = opened_view(FIRST_LAYER), STEPS[number - 1]
    return show(
        "inside/step.html",
        view,
        step=chosen,
        content=chosen.content(view),
        before=STEPS[number - 2] if number > 1 else None,
        after=STEPS[number] if number < len(STEPS) else None,
        chooses_layer=chosen.chooses_layer,
        chooses_head=chosen.chooses_head,
    )


@blueprint.get("/source/model.py")
def source_page() -> str:
    """The file that ran; its lines lead back to the steps of the text in the address."""
    fields = query_fields()
    steps = {mark: step for step in reversed(STEPS) for mark in step.marks}
    return render_template("inside/source.html", lines=file_lines(), steps=steps, fields=fields)
