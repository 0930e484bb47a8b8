"""GET /: the page, which is also the permalink of what a form was filled with.

``GET /?prompt=…&temperature=…`` fills the form and cuts the prompt, so a link shows what
its sender saw; it works without JavaScript.
"""

from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, abort, request, send_from_directory

from webapp.page import EXAMPLES, render_page
from webapp.services import get_scheduler

blueprint = Blueprint("pages", __name__)

# htmx comes out of the installed django-htmx package; these are its files we serve.
HTMX_FILES = {"htmx.js": "htmx-4.min.js", "hx-sse.js": "ext/hx-sse-4.min.js"}
# Part of their addresses, so that a newer htmx is not taken from a browser's cache.
HTMX_VERSION = metadata.version("django-htmx")


@blueprint.get("/")
def index():
    """The page; query parameters fill the form."""
    get_scheduler().start()  # the model loads while people read
    # A first visit starts with an example, so that there is something to look at.
    values = {"prompt": EXAMPLES[0], **request.args.to_dict()}
    # A form without JavaScript writes each line end of a textarea as CR LF.
    values["prompt"] = values["prompt"].replace("\r\n", "\n")
    return render_page(values)


@blueprint.get("/htmx/<name>")
def htmx_file(name: str):
    """htmx and its server-sent-events extension."""
    if name not in HTMX_FILES:
        abort(404)
    return send_from_directory(htmx_directory(), HTMX_FILES[name], max_age=86_400)


@lru_cache(maxsize=1)
def htmx_directory() -> Path:
    """Where django-htmx keeps its static files; found without importing Django."""
    (package,) = find_spec("django_htmx").submodule_search_locations
    return Path(package) / "static" / "django_htmx"
