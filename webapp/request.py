"""The request that is answered: which kind of response it wants, the fields it brings."""

from flask import g, request
from werkzeug.exceptions import UnsupportedMediaType

from gpt2core.tokenizer.bpe import replace_surrogates

# What can be asked for, and what we call it.
KINDS = {"text/html": "page", "application/json": "json", "text/event-stream": "htmx"}


def response_kind() -> str:
    """What the client asked for: ``"htmx"`` partials, ``"json"`` or a whole ``"page"``."""
    if request.htmx:
        return "htmx"
    # Whoever sends JSON, or wants a file of it, and takes anything is a program.
    about_json = request.is_json or request.path.endswith(".json")
    usual = "application/json" if about_json else "text/html"
    # Of several that please alike the first is taken.
    return KINDS[request.accept_mimetypes.best_match([usual, *KINDS], default=usual)]


def typed() -> dict:
    """The fields of this request, once a route has read them: the form is shown again."""
    return g.get("typed", {})


def submitted_values() -> dict:
    """The fields of the request; kept at hand for a page that tells an error."""
    g.typed = read_values()
    return g.typed


def read_values() -> dict:
    """The fields, from a form or a JSON object."""
    if request.is_json:
        try:
            values = request.get_json(silent=True)
        except RecursionError:  # a hundred thousand opening brackets, for example
            values = None
        if not isinstance(values, dict):
            raise UnsupportedMediaType
        # JSON can spell half a character ("\\ud800"); no answer could repeat it.
        return {k: replace_surrogates(v) if isinstance(v, str) else v for k, v in values.items()}
    # The button pressed comes last: what it keeps goes before what the form keeps.
    values = {name: all_of_it[-1] for name, all_of_it in request.form.lists()}
    if response_kind() == "page" and "prompt" in values:
        # A browser's own form submission writes each line end of a textarea as CR LF.
        values["prompt"] = values["prompt"].replace("\r\n", "\n")
    return values
