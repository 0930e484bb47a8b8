"""Tokens, generations and recordings as HTML for a notebook, from the page's own templates.

``gpt2core.display`` asks for it. Each function returns one element with its own style, which
needs no script, no address and no other file.
"""

from functools import lru_cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gpt2core.continuation import Continuation
from gpt2core.hparams import HParams
from gpt2core.inside.attribution import attribution as attribute
from gpt2core.inside.document import select
from gpt2core.inside.recording import Recording
from gpt2core.store.loader import Model
from gpt2core.tokenizer.bpe import Encoder
from webapp import drawing, templating
from webapp.assets import asset
from webapp.inside.instruments.attribution import part_ledger
from webapp.inside.instruments.lens import grid_rows, page_of
from webapp.inside.pattern import pattern_matrix, pattern_of, pattern_row
from webapp.inside.query import Query
from webapp.inside.recordings import Recordings
from webapp.inside.view import View
from webapp.notebook_style import SCOPE, style_for
from webapp.views import ContinuationView, token_view


def tokens(encoder: Encoder, text: str, special_tokens: bool | None = None) -> str:
    """A text as chips, with its counts."""
    view = token_view(encoder, text, n_ctx=0, max_chars=len(text), special_tokens=special_tokens)
    return snippet("tokens", view=view)


def generation(continuation: Continuation) -> str:
    """A generation as text and chips; the bar of a chip is its probability."""
    return snippet("generation", shown=ContinuationView(continuation))


def head(recording: Recording, encoder: Encoder, at: int | None, layer: int, head: int) -> str:
    """One head's row and pattern."""
    view = view_of(recording, encoder, at, layer, head)
    pattern = pattern_of(view)  # [n_seq, n_seq]
    return snippet(
        "head",
        view=view,
        row=pattern_row(view, pattern, view.position),
        matrix=pattern_matrix(view, pattern),
    )


def lens(recording: Recording, encoder: Encoder, at: int | None) -> str:
    """The logit lens up to one token."""
    view = view_of(recording, encoder, at)
    return snippet(
        "lens", view=view, found=page_of(view, half=False), rows=grid_rows(view, half=False)
    )


def attribution(recording: Recording, encoder: Encoder, at: int | None, token: int | None) -> str:
    """A logit as a sum of shares, part by part."""
    view = view_of(recording, encoder, at, token=token)
    found = attribute(recording, view.position, view.token)
    return snippet("attribution", view=view, found=found, parts=part_ledger(found))


def view_of(
    recording: Recording,
    encoder: Encoder,
    at: int | None,
    layer: int | None = None,
    head: int | None = None,
    token: int | None = None,
) -> View:
    """A view without an address. Raises InputError for what the recording does not have."""
    params = recording.params
    n_vocab, n_embd = params["wte"].shape
    hparams = HParams(n_vocab, len(params["wpe"]), n_embd, recording.n_head, recording.n_layer)
    # All ids are kept ones, so that they are decoded as they are and not encoded again.
    query = Query("", recording.ids, recording.ids, at, layer, head, token)
    return View(
        endpoint="",
        arguments={},
        model=Model("", encoder, hparams, params),
        query=query,
        recording=recording,
        selection=select(recording, at, layer, head, token),
        recordings=Recordings(),
    )


def snippet(template: str, **context: object) -> str:
    """A template as one element with its style."""
    body = environment().get_template(f"notebook/{template}.html").render(context)
    return f'<div class="{SCOPE}">{style_for(body)}{body}</div>'


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The page's templates outside of an app; one that needs an address fails."""
    found = Environment(
        loader=FileSystemLoader(asset("templates")), autoescape=True, undefined=StrictUndefined
    )
    templating.configure(found)
    found.globals["borders"] = drawing.BORDERS
    return found
