"""GET /inside/neurons and /inside/neighbours: vectors of the model read as tokens."""

from gpt2core.errors import InputError
from gpt2core.inside.document import in_range
from webapp.inside.instruments import neighbours, neurons
from webapp.inside.instruments.options import with_options
from webapp.inside.page import inside_blueprint, opened_view, show
from webapp.inside.query import token_id, token_value, whole
from webapp.request import query_fields

blueprint = inside_blueprint("neurons")


@blueprint.get("/inside/neurons")
def page() -> str:
    """The hidden layer of one MLP at one token; one of its neurons."""
    view, chosen = opened_view(), whole(query_fields(), "neuron")
    view = with_options(view, {"neuron": None if chosen is None else str(chosen)})
    found = neurons.page_of(view, chosen)
    return show("inside/instruments/neurons.html", view, found=found, chooses_head=False)


@blueprint.get("/inside/neighbours")
def neighbours_page() -> str:
    """Neighbours of a token, by default the chosen one, and of the chosen token's state."""
    view = opened_view()
    id = token_id(query_fields(), "id", view.model.encoder)
    view = with_options(view, {"id": None if id is None else str(id)})
    if id is None:
        id = view.chosen.id
    in_range("id", "Token id", id, 0, view.recording.n_vocab - 1)
    if id not in view.model.encoder.decoder:
        raise InputError(f"Token id is {id}, which is no token's.", "id")
    return show(
        "inside/instruments/neighbours.html",
        view,
        found=neighbours.page_of(view, id, view.layer + 1),
        value=token_value(id, view.model.encoder),
        chooses_head=False,
    )
