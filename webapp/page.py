"""The whole page: the form filled, its prompt cut into tokens, a finished text if any.

Above the views, below the routes and the error handlers, which all show this page.
"""

from collections.abc import Mapping
from typing import Any

from flask import render_template

from gpt2core.continuation import Continuation
from gpt2core.errors import InputError
from gpt2core.hparams import check_prompt
from webapp.forms import DEFAULTS, parse_kept, parse_prompt
from webapp.request import unix_line_ends
from webapp.services import get_model_server, get_settings
from webapp.views import ContinuationView, GenerationView, TokenView, token_view

EXAMPLES = (
    "Once upon a time, there was a little",
    "Lily and Tom went to the park. They",
    "Alan Turing theorized that computers would one day become",
    "Not all heroes wear capes.",
    "naïve café 🤖 日本語",
)


def render_page(
    values: Mapping[str, Any],
    messages: Mapping[str, str] | None = None,
    generation: GenerationView | None = None,
    problem: str | None = None,
) -> str:
    """The page with the form filled from ``values``.

    ``messages`` (field -> message) stand beside their fields, ``problem`` stands where the
    result would be.
    """
    form = form_texts(values)
    return render_template(
        "index.html",
        form=form,
        messages=messages or {},
        problem=problem,
        examples=EXAMPLES,
        view=prompt_view(form["prompt"]),
        generation=generation,
        preview=None if generation else preview_of_kept(form),
        n_kept=len(form["kept"].split(",")) if form["kept"] else 0,
        link_model=values.get("model"),
    )


def form_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The text of each field of the form. A value of JSON that is no text or number is dropped."""
    form = {
        name: str(values[name]) if isinstance(values.get(name), str | int | float) else default
        for name, default in DEFAULTS.items()
    }
    # The strip shows what the text area sends.
    form["prompt"] = unix_line_ends(form["prompt"])
    return form


def prompt_view(text: str) -> TokenView:
    """``text`` cut into tokens by this model's tokenizer."""
    model_server = get_model_server()
    return token_view(
        model_server.encoder, text, model_server.hparams.n_ctx, get_settings().max_chars
    )


def preview_of_kept(form: Mapping[str, str]) -> ContinuationView | None:
    """The text that the form's kept tokens make, shown before anything is generated.

    None if there are none, or if the fields are invalid: Generate then reports that.
    """
    if not form["kept"] or not form["prompt"]:
        return None
    encoder, hparams = get_model_server().encoder, get_model_server().hparams
    try:
        prompt = parse_prompt(form, get_settings().max_chars)
        kept = parse_kept(form, hparams)
        ids = encoder.encode(prompt)
        check_prompt(ids + kept, hparams.n_vocab, hparams.n_ctx)
    except InputError:
        return None
    return ContinuationView(Continuation(encoder, prompt, ids, kept))
