"""What the pages of the inside views share: blueprint, opened view, answer, refusal.

A page opens the view that the address asks for and is answered by :func:`show`: the whole
page or, for htmx, the part that the next selection replaces. Fields that are not accepted
are answered with 422: a page that has them again, each message beside its field, or, for htmx,
the messages alone, so that the view stays.
"""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, render_template, url_for
from flask.typing import ResponseReturnValue

from gpt2core.errors import InputError
from gpt2core.inside.recording import MAX_TOKENS
from gpt2core.store.loader import Model
from webapp import drawing, error_handlers, forms, sse
from webapp.forms import FormErrors
from webapp.inside.query import LABELS, Query, parse_query, parse_sampling, sampling_fields
from webapp.inside.source import line_of
from webapp.inside.steps.registry import STEPS
from webapp.inside.view import View, open_view
from webapp.links import short_link
from webapp.request import current_page, query_fields, remembered_fields, response_kind
from webapp.services import get_model_server, get_recordings, get_settings

EXAMPLE = "The cat sat on the mat because it"
EXAMPLES = (
    EXAMPLE,
    "Once upon a time, there was a little girl. Once upon a time, there was a little",
    "The old king said to his daughter",
    "naïve café 🤖 日本語",
)
TEXT_FIELDS = ("prompt", "prompt_json", "kept", "special_tokens")
SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "seed")
# The labels of fields where they are refused, if they are not those of their messages.
FORM_LABELS = {
    "for": "Why this token",
    "against": "Rather than",
    "id": "Near which token",
    "parts": "Parts turned off",
    "n_tokens": "Tokens of each text",
    "other": "The other text",
    "carry": "State carried over",
}
# The instruments in the order of the navigation: endpoint, name, what it shows.
INSTRUMENTS: tuple[tuple[str, str, str], ...] = (
    (
        "reading.page",
        "Guided reading",
        "Four things that are true of this model, with the views that show them",
    ),
    ("instruments.heads_page", "Heads", "All attention heads, by what they do"),
    ("instruments.lens_page", "Logit lens", "The likeliest next token after every layer"),
    ("instruments.attribution_page", "Attribution", "One logit as a sum of shares"),
    ("instruments.sampling_page", "The draw", "From all tokens to one"),
    ("neurons.page", "Neurons", "What one token’s strongest neurons read and write"),
    ("neurons.neighbours_page", "Neighbours", "Tokens that lie near a token, or near a state"),
    ("ablation.page", "Ablation", "Parts of the model turned off, and both texts side by side"),
    ("patching.page", "Patching", "States of another text carried into this one"),
)


def inside_blueprint(name: str) -> Blueprint:
    """A blueprint whose pages answer 404 where GPT2_INSIDE is off, and refuse with a form."""
    blueprint = Blueprint(name, __name__)
    blueprint.add_app_template_global(line_of, "line_of")
    blueprint.add_app_template_global(inside_link, "inside_link")
    blueprint.add_app_template_global(inside_is_on, "inside_is_on")
    blueprint.before_request(require_inside)
    blueprint.register_error_handler(FormErrors, refuse)
    blueprint.register_error_handler(InputError, lambda error: refuse(as_form_errors(error)))
    return blueprint


def require_inside() -> None:
    """Answer 404 where the inside views are switched off."""
    if not inside_is_on():
        abort(404)


def as_form_errors(error: InputError) -> FormErrors:
    return FormErrors([error], query_fields())


def opened_view(default_layer: int | None = None) -> View:
    """The view that this address asks for. Raises FormErrors, InputError and Unavailable.

    ``default_layer`` is the layer of an address without one; None is the last.
    """
    model = get_model_server().loaded_model()
    endpoint, arguments = current_page()
    query = parsed(model, text_values())
    return open_view(endpoint, arguments, model, query, get_recordings(), default_layer)


def parsed(model: Model, values: Mapping[str, Any]) -> Query:
    return parse_query(values, model.encoder, model.hparams, get_settings().max_chars)


def text_values() -> dict[str, str]:
    """The fields of the address; where it names no text, an example's."""
    values = query_fields()
    has_text = {"prompt", "prompt_json", "kept"} & values.keys()
    return values if has_text else {"prompt": EXAMPLE} | values


def inside_link(text: str, n_tokens: int, special_tokens: int | None = None) -> str | None:
    """The address of the inside views of a text; None where it cannot be looked into.

    ``special_tokens`` is the field of that name, None for the tokenizer's own default. The
    settings of the form go along, so that the draw is explained with them.
    """
    max_tokens = min(MAX_TOKENS, get_model_server().hparams.n_ctx)
    if not (inside_is_on() and 1 <= n_tokens <= max_tokens):
        return None
    settings = settings_of(remembered_fields() or query_fields())
    return short_link("inside.overview", prompt=text, special_tokens=special_tokens, **settings)


def settings_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a form that say how a token is drawn, where they are not the default."""
    try:
        return sampling_fields(parse_sampling(values))
    except InputError:  # which Generate reports
        return {}


def inside_is_on() -> bool:
    """The setting GPT2_INSIDE."""
    return get_settings().inside


def show(template: str, view: View, **context: Any) -> str:
    """``template`` about ``view``: the whole page, or what htmx puts in place of ``#inside``."""
    return render_template(
        template,
        view=view,
        partial=response_kind() == "htmx",
        examples=EXAMPLES,
        instruments=INSTRUMENTS,
        steps=STEPS,
        **{"chooses_layer": True, "chooses_head": True, "borders": drawing.BORDERS} | context,
    )


def message(name: str, **context: Any) -> bytes:
    """One server-sent event of an instrument: a template of partials."""
    return sse.message(render_template(f"inside/instruments/{name}.html", **context))


def refuse(error: FormErrors) -> ResponseReturnValue:
    """422 with each message beside its field."""
    if response_kind() == "json":
        return error_handlers.invalid_form(error)
    labels = LABELS | {name: forms.LABELS[name] for name in SAMPLING_FIELDS} | FORM_LABELS
    messages = {
        problem.field if problem.field in labels else "prompt": str(problem)
        for problem in reversed(error.errors)
    }
    if response_kind() == "htmx":
        return render_template("inside/refusal.html", messages=messages), 422
    endpoint, arguments = mended_page()
    page = render_template(
        "inside/refused.html",
        messages=messages,
        values=error.values,
        field_labels=labels,
        has_other_fields=bool(messages.keys() - {"prompt"}),
        path=url_for(endpoint, **arguments),
        examples=EXAMPLES,
        ending=link_to_ending(error),
        max_tokens=MAX_TOKENS,
    )
    return page, 422


def mended_page() -> tuple[str, dict[str, Any]]:
    """The page that mended fields are sent to: the one that refused them, or the map."""
    endpoint, arguments = current_page()
    pages = {"inside.step", *(instrument for instrument, *_ in INSTRUMENTS)}
    return (endpoint, arguments) if endpoint in pages else ("inside.overview", {})


def link_to_ending(error: FormErrors) -> str | None:
    """The address of the last tokens of a text that is too long, as a text of its own."""
    numbers = error.errors[0].numbers
    is_known = isinstance(error.values.get("prompt"), str)  # not if a form was posted here
    if not is_known or not {"n_prompt_tokens", "maximum"} <= numbers.keys():
        return None
    values = {name: error.values.get(name) for name in TEXT_FIELDS}
    ids = parsed(get_model_server().loaded_model(), values).ids[-int(numbers["maximum"]) :]
    return url_for("inside.overview", kept=",".join(map(str, ids)))
