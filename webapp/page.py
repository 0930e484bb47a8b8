"""The whole page: the form filled, its prompt cut into tokens, a finished text if any.

Above the views, below the routes and the error handlers, which all show this page.
"""

from collections.abc import Mapping
from typing import Any

from flask import render_template

from gpt2core.continuation import Continuation
from gpt2core.errors import InputError
from gpt2core.hparams import check_prompt, check_prompt_length
from gpt2core.sampling import MAX_SEED
from webapp.forms import (
    default_fields,
    parse_kept,
    parse_prompt,
    parse_special_tokens,
    stop_lines,
)
from webapp.request import unix_line_ends
from webapp.services import get_model_server, get_settings
from webapp.views import ContinuationView, GenerationView, TokenView, token_view

TURING = "Alan Turing theorized that computers would one day become"
STORIES = (
    "Once upon a time, there was a little",
    "Lily and Tom went to the park. They",
)
CAT = "The cat sat on the mat because it"
TOKENIZER_EXAMPLES = ("Not all heroes wear capes.", "naïve café 🤖 日本語")


def examples() -> tuple[str, ...]:
    """Prompts to try; the first, shown at a first visit, suits the model that is served."""
    if is_bundled():
        return (*STORIES, CAT, TURING, *TOKENIZER_EXAMPLES)
    return (TURING, CAT, *STORIES, *TOKENIZER_EXAMPLES)


def is_bundled() -> bool:
    """Whether the bundled model is served, which writes simple stories."""
    return get_model_server().model_name == "demo"


def render_page(
    values: Mapping[str, Any],
    messages: Mapping[str, str] | None = None,
    generation: GenerationView | None = None,
    problem: str | None = None,
    is_shared: bool = False,
) -> str:
    """The page with the form filled from ``values``.

    ``messages`` (field -> message) stand beside their fields, ``problem`` stands where the
    result would be. ``is_shared`` makes the page generate by itself what its link describes.
    """
    form = form_texts(values)
    view = prompt_view(form["prompt"], special_tokens_of(form))
    return render_template(
        "index.html",
        form=form,
        messages=messages or prompt_messages(form, view),
        problem=problem,
        examples=examples(),
        pace=values.get("pace") or ("slow" if is_bundled() else "full"),
        is_shared=is_shared and not generation,
        view=view,
        max_seed=MAX_SEED,
        generation=generation,
        preview=None if generation else preview_of_kept(form),
        n_kept=len(form["kept"].split(",")) if form["kept"] else 0,
        link_model=values.get("model"),
    )


def form_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The text of each field of the form. A value of JSON that is no text or number is dropped."""
    form = {
        name: str(values[name]) if isinstance(values.get(name), str | int | float) else default
        for name, default in default_fields(get_model_server().hparams.n_ctx).items()
    }
    if isinstance(values.get("special_tokens"), bool):  # of JSON; a form has 0 and 1
        form["special_tokens"] = str(int(values["special_tokens"]))
    if isinstance(values.get("stop"), list):  # of JSON; a form has lines
        form["stop"] = stop_lines([str(one) for one in values["stop"]])
    # The strip shows what the text area sends.
    form["prompt"] = unix_line_ends(form["prompt"])
    return form


def prompt_view(text: str, special_tokens: bool | None = None) -> TokenView:
    """``text`` cut into tokens by this model's tokenizer."""
    encoder, n_ctx = get_model_server().encoder, get_model_server().hparams.n_ctx
    return token_view(encoder, text, n_ctx, get_settings().max_chars, special_tokens)


def prompt_messages(form: Mapping[str, Any], view: TokenView) -> dict[str, str]:
    """What is wrong with the form's prompt, of which ``view`` shows the tokens, by field."""
    try:
        parse_prompt(form, get_settings().max_chars)
        check_prompt_length(view.n_tokens, view.n_ctx)
    except InputError as error:
        return {"prompt": str(error)}
    return {}


def special_tokens_of(form: Mapping[str, Any]) -> bool | None:
    """The field ``special_tokens``; None if it is invalid, which Generate reports."""
    try:
        return parse_special_tokens(form)
    except InputError:
        return None


def preview_of_kept(form: Mapping[str, str]) -> ContinuationView | None:
    """The text that the form's kept tokens make, shown before anything is generated.

    None if there are none, or if the fields are invalid: Generate then reports that.
    """
    if not form["kept"] or not form["prompt"]:
        return None
    encoder, hparams = get_model_server().encoder, get_model_server().hparams
    try:
        prompt = parse_prompt(form, get_settings().max_chars)
        kept = parse_kept(form, hparams, encoder)
        ids = encoder.encode(prompt, parse_special_tokens(form))
        check_prompt(ids + kept, hparams.n_vocab, hparams.n_ctx)
    except InputError:
        return None
    return ContinuationView(Continuation(encoder, prompt, ids, kept))
