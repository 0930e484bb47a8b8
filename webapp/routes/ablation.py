"""GET /inside/ablate: parts of the model turned off, the next token and both texts compared.

A page has everything; for htmx both texts and the rows of a sweep follow as event streams.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ClientDisconnected

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError
from gpt2core.inside.document import in_range
from gpt2core.inside.interventions import REPLACEMENTS, Replacement
from webapp import sse
from webapp.forms import FormErrors, parse_number
from webapp.inside.instruments import ablation, texts
from webapp.inside.instruments.options import choice, with_options
from webapp.inside.page import inside_blueprint, message, opened_view, show
from webapp.inside.view import View
from webapp.request import (
    client_left,
    query_fields,
    query_values,
    request_id,
    response_kind,
)
from webapp.streaming import event_stream

blueprint: Blueprint = inside_blueprint("ablation")
N_TOKENS = 40  # of each text, if nothing else is asked for
MAX_TEXT = 200  # tokens; a reader's generations end soon, so that others get their slots


@dataclass(frozen=True)
class Asked:
    """What the address asks for. ``n_tokens`` is 0 where the context has no room for a text."""

    view: View
    parts: tuple[ablation.Part, ...]
    to: Replacement
    n_tokens: int
    sweeps: bool

    @property
    def names(self) -> set[str]:
        return {part.name for part in self.parts}

    @property
    def why_no_texts(self) -> str:
        """Why there are no texts to compare; empty where there are."""
        if not self.parts:
            return "No part is turned off, so both texts would be the same."
        if not self.n_tokens:
            return "The context of this model is full, so no text can follow."
        if ablation.gates_without(self.parts, self.to, self.view.model.hparams) is None:
            return (
                "Both texts are written by the engine, at full speed. It can turn off heads and "
                "whole halves of a layer to zero, but no single neurons, and it knows no means; "
                "so there are no texts to compare here."
            )
        return ""


@blueprint.get("/inside/ablate")
def page() -> ResponseReturnValue:
    """The form, the next token before and after, both texts, and the sweep."""
    asked = read()
    view, parts, is_page = asked.view, asked.parts, response_kind() != "htmx"
    hparams = view.model.hparams
    n_tokens = view.recording.n_tokens
    if asked.sweeps:
        ablation.check_sweep(hparams, n_tokens)
    both, why_no_texts = None, asked.why_no_texts
    if is_page and not why_no_texts:
        try:
            both = finished_texts(asked)
        except Unavailable as error:  # too many texts are being written; the rest can be shown
            why_no_texts = str(error)
    seconds = ablation.sweep_seconds(hparams, n_tokens)
    rows = list(ablation.sweep_rows(view, asked.to)) if asked.sweeps and is_page else None
    return show(
        "inside/instruments/ablation.html",
        view,
        parts=parts,
        names=asked.names,
        in_words=ablation.in_words(parts),
        neurons=ablation.neuron_names(parts),
        to=asked.to,
        n_tokens=asked.n_tokens or N_TOKENS,
        sampling=view.query.sampling,
        result=ablation.result(view, parts, asked.to) if parts else None,
        texts=both,
        so_far=texts.so_far(view),
        why_no_texts=why_no_texts,
        sweeps=asked.sweeps,
        sweep=rows,
        most=ablation.most(rows) if rows else None,
        scale=ablation.sweep_scale(view),
        seconds=seconds,
        max_seconds=ablation.MAX_SWEEP_SECONDS,
        chooses_layer=False,
        chooses_head=False,
    )


def read() -> Asked:
    """The checked fields. Raises FormErrors, InputError and Unavailable."""
    values, names = query_fields(), query_values("parts")
    view = opened_view()
    try:
        parts = ablation.parse_parts(names, view.model.hparams)
        to = cast(Replacement, choice(values, "to", REPLACEMENTS))
        n_tokens = parse_n_tokens(values, view)
        sweeps = choice(values, "sweep", ("0", "1")) == "1"
    except InputError as error:
        joined = ", ".join(filter(None, names))
        raise FormErrors([error], values | {"parts": joined}) from error
    options = {
        "parts": ",".join(part.name for part in parts) or None,
        "to": None if to == REPLACEMENTS[0] else to,
        "n_tokens": None if n_tokens in (0, N_TOKENS) else str(n_tokens),
        "sweep": "1" if sweeps else None,
    }
    return Asked(with_options(view, options), parts, to, n_tokens, sweeps)


def parse_n_tokens(values: dict[str, str], view: View) -> int:
    """The length of both texts: what is asked for, or as many as fit. Raises InputError."""
    room = min(MAX_TEXT, view.model.hparams.n_ctx - view.selection.at)
    if not values.get("n_tokens", "").strip() or not room:
        return min(N_TOKENS, room)
    return in_range("n_tokens", "Tokens", parse_number(values, "n_tokens", int) or 0, 1, room)


# Both texts


def begun(asked: Asked) -> texts.Texts:
    """Both generations, handed to the model server. Raises InputError and Unavailable."""
    gates = ablation.gates_without(asked.parts, asked.to, asked.view.model.hparams)
    if asked.why_no_texts or gates is None:
        raise InputError(asked.why_no_texts, "parts")
    return texts.start(asked.view, gates, asked.n_tokens)


def finished_texts(asked: Asked) -> texts.Texts:
    """Both texts to their ends. Raises Unavailable, ClientDisconnected if the client left."""
    both = begun(asked)
    for _ in both.run():
        if client_left():
            both.cancel()
            raise ClientDisconnected
    return both


@blueprint.get("/inside/ablate/texts")
def texts_stream() -> Response:
    """Both texts, a message for each pair of tokens."""
    both = begun(read())

    def messages() -> Iterator[bytes]:
        try:
            for bits in both.run():
                yield sse.HEARTBEAT if bits is None else message("text_bits", both=both, bits=bits)
            yield message("text_bits", both=both, bits=())
        except Unavailable as error:
            said = str(error)
            yield message("said", target="inside-texts-said", said=said, reference=request_id())

    return event_stream(messages(), "inside-problem")


# The sweep


@blueprint.get("/inside/ablate/heads")
def sweep_stream() -> Response:
    """The rows of the sweep, each sent when it is computed."""
    asked = read()
    ablation.check_sweep(asked.view.model.hparams, asked.view.recording.n_tokens)

    def messages() -> Iterator[bytes]:
        rows: list[ablation.SweepRow] = []
        reference = None
        try:
            for row in ablation.sweep_rows(asked.view, asked.to):
                rows.append(row)
                yield message("sweep_message", row=row, names=asked.names)
            said = ablation.most(rows)
        except Unavailable as error:
            said, reference = str(error), request_id()
        yield message("said", target="inside-sweep-said", said=said, reference=reference)

    return event_stream(messages(), "inside-problem")
