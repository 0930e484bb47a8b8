"""The logit lens: the likeliest next token by layer and token, and ranks of one token's leaders.

The grid can be computed a row at a time, to be sent as it is made. Its last row is the
model's answer.

Invariants: the embedding and the answer are always rows; rows that are left out are counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.lens import leaders, leading, lens, ranks
from gpt2core.inside.recording import early_logits
from webapp.drawing import weight_class
from webapp.inside import numbers
from webapp.inside.labels import Label, Piece
from webapp.inside.steps.common import agrees, largest_difference
from webapp.inside.steps.step import Check
from webapp.inside.view import View
from webapp.inside.window import layer_step

N_COLUMNS = 12  # tokens of the grid, the chosen one last
STATES_AT_ONCE = 5  # rows of the grid computed together: 60 rows of logits, 12 MB
MAX_LEADERS = 8  # whose ranks are drawn
WIDTH, HEIGHT = 600, 300  # of the picture of ranks, in units of its view box
MARGIN = 30  # above rank 1, for the numbers of the lines


@dataclass(frozen=True)
class State:
    """A row: the residual stream after ``n_layers`` layers, or in the middle of the next one."""

    n_layers: int
    is_half: bool
    is_answer: bool

    @property
    def label(self) -> str:
        if self.is_half:
            return f"layer {self.n_layers}, attention added"
        return f"after layer {self.n_layers - 1}" if self.n_layers else "embedding"


@dataclass(frozen=True)
class Cell:
    """The likeliest token after the column's token, read from the row's state."""

    label: Label
    piece: Piece
    probability: float

    @property
    def css(self) -> str:
        return weight_class(self.probability)


@dataclass(frozen=True)
class Row:
    state: State
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Leader:
    """A token that is likeliest in some state, and its rank in every state.

    ``points`` is its line, ``x`` and ``y`` where its number stands: where it first leads.
    """

    number: int
    piece: Piece
    ranks: tuple[int, ...]
    probability: float
    points: str
    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A rank beside the picture, and how far down it lies."""

    rank: int
    y: float


@dataclass(frozen=True)
class Ranks:
    """Ranks of the leaders after the chosen token. ``states`` are the rows of the table."""

    states: tuple[State, ...]
    leaders: tuple[Leader, ...]
    n_hidden: int
    ticks: tuple[Tick, ...]
    lead: str


@dataclass(frozen=True)
class LensPage:
    """What the page shows beside the grid's rows."""

    columns: tuple[Label, ...]
    n_before: int
    step: int
    ranks: Ranks
    check: Check


def page_of(view: View, half: bool) -> LensPage:
    """Everything but the rows of the grid, which :func:`grid_rows` computes."""
    logits = lens(view.recording, view.position)  # [n_layer + 1, n_vocab]
    places = positions(view)
    return LensPage(
        columns=tuple(view.labels[p] for p in places),
        n_before=places.start,
        step=layer_step(view.recording.n_layer),
        ranks=ranks_of(view, logits),
        check=check(view),
    )


def positions(view: View) -> range:
    """Positions of the grid's columns."""
    return range(max(view.position + 1 - N_COLUMNS, 0), view.position + 1)


def states(n_layer: int, half: bool, step: int) -> tuple[State, ...]:
    """Rows from the embedding to the answer, one for every ``step`` layers."""
    found = []
    for n_layers in range(0, n_layer, step):
        found.append(State(n_layers, False, False))
        if half:
            found.append(State(n_layers, True, False))
    return (*found, State(n_layer, False, True))


def grid_rows(
    view: View, half: bool, every: bool = False, at_once: int = STATES_AT_ONCE
) -> Iterator[Row]:
    """The rows of the grid, ``at_once`` computed when the first of them is asked for.

    ``every``: rows for all layers, as a file has them. One at a time is soonest, several at
    a time are faster, because all of ``wte`` is read each time.
    """
    n_layer = view.recording.n_layer
    pending = states(n_layer, half, 1 if every else layer_step(n_layer))
    while pending:
        yield from read(view, pending[:at_once])
        pending = pending[at_once:]


def read(view: View, chosen: tuple[State, ...]) -> list[Row]:
    """The rows of the ``chosen`` states."""
    recording, places = view.recording, positions(view)
    streams = [recording.residual_mid if s.is_half else recording.residual for s in chosen]
    cells = [
        stream[state.n_layers][places.start : places.stop]  # [n_columns, n_embd]
        for stream, state in zip(streams, chosen, strict=True)
    ]
    logits = early_logits(
        np.concatenate(cells), recording.params
    )  # [n_states * n_columns, n_vocab]
    if chosen[-1].is_answer:
        logits[-1] = recording.logits(view.position)
    ids, probabilities = leading(logits)  # [n_states * n_columns] each
    n = len(places)
    return [
        Row(state, grid_cells(view, ids[i : i + n], probabilities[i : i + n]))
        for i, state in zip(range(0, len(ids), n), chosen, strict=True)
    ]


def grid_cells(view: View, ids: np.ndarray, probabilities: np.ndarray) -> tuple[Cell, ...]:
    """One row's cells; ``ids`` and ``probabilities`` are ``[n_columns]``."""
    return tuple(
        Cell(view.labels[p], view.piece(id), float(probability))
        for p, id, probability in zip(positions(view), ids, probabilities, strict=True)
    )


def check(view: View) -> Check:
    """Whether the last state, unembedded by itself, is the answer."""
    p, recording = view.position, view.recording
    last = early_logits(recording.residual[-1][p : p + 1], recording.params)[0]  # [n_vocab]
    answer = recording.logits(p)  # [n_vocab]
    off = largest_difference(last, answer)
    said = f"The last row is the model’s answer: all {len(answer):,} logits read from the last "
    said += "state are those of the pass" + (f", to {numbers.number(off, 2)}." if off else ".")
    return Check(said, agrees(off, answer))


# Ranks


def ranks_of(view: View, logits: np.ndarray) -> Ranks:
    """``logits`` is the lens of the chosen token, ``[n_layer + 1, n_vocab]``."""
    all_leaders = leaders(logits, len(logits))
    ids = all_leaders[:MAX_LEADERS]
    ranks_of_ids = ranks(logits, ids)  # [n_layer + 1, len(ids)]
    _, answers = leading(logits)
    found = []
    for number, (id, column) in enumerate(zip(ids, ranks_of_ids.T, strict=True), start=1):
        line = [point(i, int(rank), *logits.shape) for i, rank in enumerate(column)]
        x, y = line[int(column.argmin())]
        probability = float(np.exp(logits[-1, id] - logits[-1].max()) * answers[-1])
        points = " ".join(f"{x:g},{y:g}" for x, y in line)
        found.append(
            Leader(number, view.piece(id), tuple(map(int, column)), probability, points, x, y)
        )
    n_vocab = logits.shape[1]
    powers = [10**n for n in range(len(str(n_vocab))) if 10**n <= n_vocab]
    return Ranks(
        states=states(len(logits) - 1, half=False, step=1),
        leaders=tuple(found),
        n_hidden=len(all_leaders) - len(ids),
        ticks=tuple(Tick(rank, point(0, rank, *logits.shape)[1]) for rank in powers),
        lead=lead_of(view, logits.argmax(axis=-1)),
    )


def point(i: int, rank: int, n_states: int, n_vocab: int) -> tuple[float, float]:
    """Place of a rank in state ``i``: rank 1 on top, every power of ten as far below the last."""
    x = WIDTH * i / (n_states - 1)
    y = MARGIN + (HEIGHT - MARGIN) * np.log(rank) / np.log(n_vocab)
    return round(x, 1), round(float(y), 1)


def lead_of(view: View, best: np.ndarray) -> str:
    """Since when the answer is likeliest; ``best [n_layer + 1]`` are the states' likeliest ids."""
    answer = view.piece(int(best[-1]))
    others = np.flatnonzero(best != best[-1])
    first = int(others[-1]) + 1 if others.size else 0
    if first == len(best) - 1:
        return f"“{answer.piece}” is likeliest only at the very end."
    if not first:
        return f"“{answer.piece}” is likeliest from the embedding on."
    return f"“{answer.piece}” is likeliest after layer {first - 1}, and from there on."


def every_rank(view: View) -> Iterator[tuple[State, Piece, int, float]]:
    """(state, token, rank, probability) of every leader in every state, for the file."""
    logits = lens(view.recording, view.position)  # [n_layer + 1, n_vocab]
    ids = leaders(logits, len(logits))
    table = ranks(logits, ids)  # [n_layer + 1, len(ids)]
    for n, state in enumerate(states(len(logits) - 1, half=False, step=1)):
        row = logits[n].astype(np.float64)  # [n_vocab]
        powers = np.exp(row - row.max())
        for id, rank in zip(ids, table[n], strict=True):
            yield state, view.piece(id), int(rank), float(powers[id] / powers.sum())
