"""Texts, generations and recordings as a notebook displays them: as the page does.

The top of the package, for notebooks and the Python prompt. Each function returns a
:class:`Display`: HTML in a notebook, the tables of ``inside.report`` elsewhere.

Invariants: tokens count from 1, layers and heads from 0, as on the page.
"""

import math
from collections.abc import Callable

from gpt2core.continuation import Continuation
from gpt2core.display import Display, token_columns
from gpt2core.inside import report
from gpt2core.inside.document import JsonObject, document, select
from gpt2core.inside.recording import Recording
from gpt2core.store.loader import get_encoder
from gpt2core.tokenizer.bpe import Encoder


def show(
    what: str | Continuation, encoder: Encoder | None = None, special_tokens: bool | None = None
) -> Display:
    """A text cut into tokens, or a generation with the probability of each of its tokens.

    ``encoder`` and ``special_tokens`` are for a text; GPT-2's own tokenizer by default.
    """
    if isinstance(what, str):
        return (encoder or get_encoder()).show(what, special_tokens)
    prompt = [(token.piece, str(token.id)) for token in what.prompt_tokens]
    steps = [(step.token.piece, probability(step.logprob)) for step in what.steps]
    text = what.prompt + "".join(step.text for step in what.steps)
    return Display(
        f"{text}\n\n{token_columns(prompt + steps)}", lambda views: views.generation(what)
    )


def probability(logprob: float | None) -> str:
    """``"0.41"``; a dash for a token that was given, not generated."""
    return "-" if logprob is None else f"{math.exp(logprob):.2f}"


def show_head(
    recording: Recording,
    layer: int,
    head: int,
    at: int | None = None,
    encoder: Encoder | None = None,
) -> Display:
    """Where a head looks: the row of token ``at`` (default: the last) and the whole pattern.

    Raises InputError for a token, layer or head that is not there.
    """
    found = found_in(recording, encoder, at, layer, head)
    return Display(
        report.row(found),
        lambda views: views.head(recording, encoder or get_encoder(), at, layer, head),
    )


def show_lens(
    recording: Recording, at: int | None = None, encoder: Encoder | None = None
) -> Display:
    """The logit lens up to token ``at``: the likeliest next token after every layer.

    Raises InputError for a token that is not there.
    """
    found = found_in(recording, encoder, at)
    return Display(
        report.lens(found), lambda views: views.lens(recording, encoder or get_encoder(), at)
    )


def show_attribution(
    recording: Recording,
    token: int | None = None,
    at: int | None = None,
    encoder: Encoder | None = None,
) -> Display:
    """The logit of ``token`` (default: the likeliest) after token ``at`` as a sum of shares.

    Raises InputError for a token that is not there.
    """
    found = found_in(recording, encoder, at, token=token)
    return Display(
        report.attribution(found),
        lambda views: views.attribution(recording, encoder or get_encoder(), at, token),
    )


def found_in(
    recording: Recording,
    encoder: Encoder | None,
    at: int | None,
    layer: int | None = None,
    head: int | None = None,
    token: int | None = None,
) -> JsonObject:
    """The document of a recording, from which the text is made. Raises InputError."""
    encoder = encoder or get_encoder()
    spell: Callable[[int], str] = encoder.decoder.__getitem__
    tokens = [{"id": token_id, "piece": spell(token_id)} for token_id in recording.ids]
    return document(recording, select(recording, at, layer, head, token), "", tokens, spell)
