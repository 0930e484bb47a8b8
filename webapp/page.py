"""The whole page: the form filled, its prompt cut, a finished result if there is one."""

from collections.abc import Mapping

from flask import render_template

from gpt2core.tokenizer.bpe import replace_surrogates
from webapp.chips import group_chips
from webapp.forms import DEFAULTS, FormErrors, parse_request
from webapp.services import get_scheduler, get_settings
from webapp.views import Result, TokenView

EXAMPLES = (
    "Alan Turing theorized that computers would one day become",
    "Once upon a time",
    "The old king said to his daughter",
    "Not all heroes wear capes.",
    "naïve café 🤖 日本語",
)


def render_page(
    values: Mapping,
    messages: dict[str, str] | None = None,
    result: Result | None = None,
    problem: str | None = None,
) -> str:
    """The whole page: the form filled from ``values``; errors and a finished result, if any.

    ``messages`` stand beside their fields, ``problem`` where the result would be.
    """
    # A JSON object can hold anything; a field shows text and numbers.
    form = {
        name: str(values[name]) if isinstance(values.get(name), str | int | float) else default
        for name, default in DEFAULTS.items()
    }
    # As a text area has them, so that the strip shows what is sent from there.
    form["prompt"] = form["prompt"].replace("\r\n", "\n").replace("\r", "\n")
    return render_template(
        "index.html",
        form=form,
        messages=messages or {},
        problem=problem,
        examples=EXAMPLES,
        view=token_view(form["prompt"]),
        result=result,
        preview=kept_preview(form),
        link_model=values.get("model"),
    )


def kept_preview(form: dict[str, str]) -> Result | None:
    """The text that the form's kept tokens make, before anything is generated, if it is one."""
    if not form["kept"]:
        return None
    scheduler = get_scheduler()
    max_chars = get_settings().max_chars
    fields = {"prompt": form["prompt"], "kept": form["kept"], "n_tokens": "1"}
    try:
        asked = parse_request(fields, scheduler.encoder, scheduler.hparams, max_chars)
    except FormErrors:  # which are told to whoever presses Generate
        return None
    return Result(asked, scheduler.encoder)


def token_view(text: str) -> TokenView:
    """``text`` cut into tokens, with its counts; of one that is not taken, the beginning."""
    scheduler = get_scheduler()
    max_chars = get_settings().max_chars
    n_left_out = max(0, len(text) - max_chars)
    text = replace_surrogates(text[:max_chars])
    ids = scheduler.encoder.encode(text)
    groups = group_chips(scheduler.encoder, text, ids)
    n_ctx = scheduler.hparams.n_ctx
    return TokenView(text, groups, len(ids), len(text.encode()), n_ctx, n_left_out)
