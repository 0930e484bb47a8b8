"""GET /: the page, and the files of htmx that it needs.

``GET /?prompt=…&temperature=…`` fills the form and cuts the prompt into tokens, so a
permalink shows what its sender saw, also without JavaScript.
"""

from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, abort, g, request, url_for
from flask.typing import ResponseReturnValue

from webapp.generating import check, finished_generation
from webapp.page import examples, render_page
from webapp.services import get_model_server
from webapp.static_files import YEAR, send_file

blueprint = Blueprint("pages", __name__)

# Our name -> the file in the installed package django-htmx.
HTMX_FILES = {"htmx.js": "htmx-4.min.js", "hx-sse.js": "ext/hx-sse-4.min.js"}
# Part of their addresses, so that no browser keeps an older htmx in its cache.
HTMX_VERSION = metadata.version("django-htmx")
# The modules that main.js imports, directly or not.
MODULES = (
    "candidates", "copy", "details", "dom", "follow", "form", "highlight", "keyboard", "requests",
    "sentences", "session", "state", "stream", "strip", "text", "views",
)  # fmt: skip


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The page; query parameters fill the form.

    A link with a seed describes one text: the page generates it when it is opened. Without
    scripts it asks for this address again, with ``generate=1``, and the server does.
    """
    get_model_server().start()  # the model loads while the page is read
    # A first visit starts with an example, so that there is something to look at.
    values = {"prompt": examples()[0], **request.args.to_dict()}
    if "generate" in request.args:
        g.submitted_fields = values
        generation = finished_generation(check(values))
        return render_page({**values, "kept": ""}, generation=generation)
    page = render_page(values, is_shared=bool(request.args.get("seed")))
    return page, {"Link": module_preloads()}


def module_preloads() -> str:
    """The header ``Link`` that lets browsers load all modules at once.

    Otherwise they learn of a module only after they have read those that import it. As a
    header it adds nothing to the HTML.
    """
    files = [url_for("static", filename=f"js/{name}.js") for name in MODULES]
    return ", ".join(f"<{file}>; rel=modulepreload" for file in files)


@blueprint.get("/robots.txt")
def robots() -> ResponseReturnValue:
    """Search engines need the pages only: an address with a text has the model compute."""
    root = url_for("pages.index")
    lines = ["User-agent: *", f"Disallow: {root}*?", f"Disallow: {root}inside"]
    return "\n".join(lines) + "\n", {"Content-Type": "text/plain; charset=utf-8"}


@blueprint.get("/htmx/<name>")
def htmx_file(name: str) -> ResponseReturnValue:
    """htmx and its server-sent-events extension."""
    if name not in HTMX_FILES:
        abort(404)
    return send_file(htmx_directory(), HTMX_FILES[name], YEAR)


@lru_cache(maxsize=1)
def htmx_directory() -> Path:
    """Where django-htmx keeps its static files, found without importing Django."""
    spec = find_spec("django_htmx")
    assert spec and spec.submodule_search_locations  # requirements.txt names it
    (package,) = spec.submodule_search_locations
    return Path(package) / "static" / "django_htmx"
