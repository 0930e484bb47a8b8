"""GET /inside/reading: four stories about the model, found by searching it."""

from webapp.inside.instruments.reading import stories
from webapp.inside.page import inside_blueprint, opened_view, show
from webapp.services import get_readings

blueprint = inside_blueprint("reading")


@blueprint.get("/inside/reading")
def page() -> str:
    """The stories. The text of the address is only carried along."""
    view = opened_view()
    found = stories(view.model, get_readings().get(view.model))
    return show("inside/instruments/reading.html", view, found=found)
