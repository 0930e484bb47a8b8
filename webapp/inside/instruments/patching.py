"""Activation patching: states of another text carried into this one, and what that changes.

A cell of the grid carries the state of one token before one layer. Its number is the share of
the difference between the two texts that comes over: 0 leaves this text's answer, 1 gives the
other's. The difference is between two tokens' logits, by default the two answers'.

Of a deep model the grid has only some layers, as many as can be computed in time.

Invariants: both texts have as many tokens, so a place of one is a place of the other. States
before the first token that differs are bit-identical and get no cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2core.errors import InputError
from gpt2core.inside.interventions import Intervention, patch, patched_logits
from gpt2core.inside.recording import Recording, early_logits
from gpt2core.sampling import log_softmax
from webapp.drawing import signed_class
from webapp.inside.instruments.ablation import MAX_SWEEP_SECONDS, Row, grid_seconds
from webapp.inside.labels import Label, Piece, labels_of
from webapp.inside.view import View
from webapp.inside.window import layer_step, layers_in_steps

N_LEADERS = 5  # likeliest tokens with and without the carried state, a row each
MAX_COLUMNS = 16  # tokens of the grid, the chosen one last


@dataclass(frozen=True, eq=False)
class Pair:
    """This text, the other, and the two tokens whose logits are compared.

    ``theirs`` is the token that the other text makes likelier, ``ours`` this text's.
    ``positions`` are the columns of the grid, ``layers`` its rows. ``here`` and ``there`` say by
    how much ``theirs`` is ahead in each text.
    """

    view: View
    other: Recording
    labels: tuple[Label, ...]
    ours: int
    theirs: int
    positions: range
    layers: tuple[int, ...]
    here: float
    there: float

    def share(self, lead: float) -> float:
        """How much of the difference came over if ``theirs`` is now so far ahead."""
        return (lead - self.here) / (self.there - self.here)


def ahead(logits: np.ndarray, theirs: int, ours: int) -> float:
    """By how much ``theirs`` is ahead of ``ours`` in ``logits [n_vocab]``."""
    return float(logits[theirs]) - float(logits[ours])


@dataclass(frozen=True)
class Cell:
    """``name`` is layer and token, from 1, as the field ``carry`` spells them."""

    name: str
    share: float
    css: str
    in_cone: bool


@dataclass(frozen=True)
class GridRow:
    layer: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Carried:
    """One cell, run: its token here and there, what came over, and the next tokens."""

    layer: int
    here: Label
    there: Label
    share: float
    rows: tuple[Row, ...]
    n_changed: int
    n_vocab: int


def pair(view: View, other: str) -> Pair:
    """Both texts. Raises InputError for the field ``other``, and Unavailable."""
    ids = view.model.encoder.encode(other, view.query.special_tokens)
    n_here, n_there = view.recording.n_tokens, len(ids)
    if n_here != n_there:
        raise InputError(
            f"This text has {n_here:,} tokens, the other {n_there:,}: give the other "
            f"{abs(n_here - n_there):,} {'more' if n_there < n_here else 'fewer'}, so that each "
            "place of one is a place of the other.",
            "other",
            n_tokens=n_there,
            expected=n_here,
        )
    both = enumerate(zip(view.recording.ids, ids, strict=True))
    differing = [i for i, (here, there) in both if here != there]
    if not differing or differing[0] > view.position:
        raise InputError("Up to the chosen token both texts are the same.", "other")
    start = max(differing[0], view.position + 1 - MAX_COLUMNS)
    positions = range(start, view.position + 1)
    layers = grid_layers(view, len(positions))
    recording = view.recordings.get(view.model, ids)
    here, there = (answer(one, view.position) for one in (view.recording, recording))
    ours, theirs = compared(view, here, there)
    return Pair(
        view,
        recording,
        other_labels(view, other),
        ours,
        theirs,
        positions,
        layers,
        ahead(here, theirs, ours),
        ahead(there, theirs, ours),
    )


def other_labels(view: View, other: str) -> tuple[Label, ...]:
    """The tokens of the other text."""
    encoder = view.model.encoder
    ids = encoder.encode(other, view.query.special_tokens)
    return labels_of(encoder, other, ids, len(ids))[0]


def marks(ours: Sequence[Label], theirs: Sequence[Label]) -> list[bool]:
    """Whether each of ``ours`` is another token in the other text.

    Texts of as many tokens are compared place by place. Of others the tokens between the common
    beginning and the common end are marked.
    """
    ids, others = ([label.id for label in labels] for labels in (ours, theirs))
    if len(ids) == len(others):
        return [a != b for a, b in zip(ids, others, strict=True)]
    shorter = min(len(ids), len(others))
    start = next((i for i in range(shorter) if ids[i] != others[i]), shorter)
    room = shorter - start
    end = next((i for i in range(room) if ids[-1 - i] != others[-1 - i]), room)
    return [start <= i < len(ids) - end for i in range(len(ids))]


def compared(view: View, here: np.ndarray, there: np.ndarray) -> tuple[int, int]:
    """The ids whose logits are compared: those of the query, else the two answers.

    ``here`` and ``there`` are the logits ``[n_vocab]`` of both texts. Raises InputError.
    """
    ours = view.query.token
    if ours is None:
        ours = int(here.argmax())
    theirs = view.query.against
    if theirs is None:
        # Where both answers are the same, the token whose probability rises most.
        theirs = int(there.argmax())
        if theirs == ours:
            rise = np.exp(log_softmax(there)) - np.exp(log_softmax(here))  # [n_vocab]
            rise[ours] = -np.inf
            theirs = int(rise.argmax())
    if ours == theirs:
        raise InputError("Two different tokens are compared.", "against")
    if there[theirs] - there[ours] == here[theirs] - here[ours]:
        raise InputError("Both texts have these two tokens equally far apart.", "other")
    return ours, theirs


def answer(recording: Recording, position: int) -> np.ndarray:
    """Logits ``[n_vocab]`` after ``position``, as :func:`patch` computes them."""
    row = recording.residual[-1][position : position + 1]  # [1, n_embd]
    logits: np.ndarray = early_logits(row, recording.params)[0]
    return logits


def grid_layers(view: View, n_columns: int) -> tuple[int, ...]:
    """The layers of the grid: in steps so wide that it is computed in time.

    Raises InputError, with both numbers, where the first and the last alone take too long.
    """
    hparams, n_tokens = view.model.hparams, view.recording.n_tokens
    for step in range(layer_step(hparams.n_layer), hparams.n_layer + 1):
        layers = layers_in_steps(hparams.n_layer, step)
        seconds = grid_seconds(hparams, n_tokens, n_columns, layers)
        if seconds <= MAX_SWEEP_SECONDS:
            return layers
    raise InputError(
        f"Carrying states over would take about {round(seconds):,} seconds for these texts; at "
        f"most {MAX_SWEEP_SECONDS} are spent.",
        "other",
        seconds=round(seconds),
        maximum=MAX_SWEEP_SECONDS,
    )


def run(pair: Pair, layer: int, position: int) -> Intervention:
    view = pair.view
    return view.recordings.in_turn(
        lambda: patch(view.recording, pair.other, layer, [position], view.position)
    )


def lead(pair: Pair, layer: int, position: int) -> float:
    """By how much ``theirs`` is ahead with a state carried over."""
    view = pair.view

    def logits() -> np.ndarray:
        ids = (pair.theirs, pair.ours)
        return patched_logits(view.recording, pair.other, layer, [position], view.position, ids)

    theirs, ours = view.recordings.in_turn(logits)
    return float(theirs) - float(ours)


def grid_rows(pair: Pair, chosen: tuple[int, int] | None) -> Iterator[GridRow]:
    """A row for each drawn layer. It is computed when it is asked for."""
    for layer in pair.layers:
        cells = []
        for position in pair.positions:
            share = pair.share(lead(pair, layer, position))
            in_cone = chosen is not None and layer >= chosen[0] and position >= chosen[1]
            name = f"{layer}.{position + 1}"
            cells.append(Cell(name, share, signed_class(share, 1.0), in_cone))
        yield GridRow(layer, tuple(cells))


def carried_state(pair: Pair, layer: int, position: int) -> Carried:
    """What one cell changes."""
    view, found = pair.view, run(pair, layer, position)
    ids = list(dict.fromkeys([pair.ours, pair.theirs, *found.leaders(N_LEADERS)]))
    return Carried(
        layer,
        view.labels[position],
        pair.labels[position],
        pair.share(ahead(found.after, pair.theirs, pair.ours)),
        tuple(Row(view.piece(row.id), row) for row in found.comparison(ids)),
        found.n_changed,
        len(found.before),
    )


def parse_carry(text: str | None, pair: Pair) -> tuple[int, int] | None:
    """Layer and position of ``"3.2"``, layer 3 and token 2. Raises InputError."""
    if not text:
        return None
    layer, _, at = text.partition(".")
    first, last = pair.positions.start + 1, pair.positions.stop
    n_layer = pair.view.recording.n_layer
    if not (layer.isdecimal() and at.isdecimal() and len(text) < 12):
        raise InputError(f"{text[:40]!r} must be layer.token, as in 3.2.", "carry")
    if not (int(layer) < n_layer and first <= int(at) <= last):
        raise InputError(
            f"{text} must have a layer from 0 to {n_layer - 1} and a token from {first} to {last}.",
            "carry",
        )
    return int(layer), int(at) - 1


def pieces_of(pair: Pair) -> tuple[Piece, Piece]:
    return pair.view.piece(pair.ours), pair.view.piece(pair.theirs)
