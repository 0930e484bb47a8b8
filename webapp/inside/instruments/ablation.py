"""Ablation: which parts are removed, and the next token with and without them.

The form is a table of layers and heads; a neuron is named by its number. A sweep removes each
head alone, and says how much the logit of one token changes. How long that takes is reckoned
from the model's shape, so every process gives the same answer.

Invariants: numbers come from :func:`gpt2core.inside.interventions.ablate`, edited weights for
``gpt2()``. Gates say the same to the engine, where they can: heads and halves set to zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2core.engine.gates import Gates
from gpt2core.errors import InputError
from gpt2core.hparams import HParams
from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.heads import head_shares
from gpt2core.inside.interventions import (
    Ablation,
    Compared,
    Component,
    Replacement,
    ablate,
    parse_components,
)
from webapp.drawing import signed_class
from webapp.inside.labels import Piece
from webapp.inside.numbers import fixed_signed
from webapp.inside.steps.common import ids_of
from webapp.inside.steps.step import Program
from webapp.inside.view import View

N_LEADERS = 8  # likeliest tokens before and after, a row each
BAR = 1000  # units of a bar whose probability is 1
# What a thread surely does on a busy machine, for the seconds of a sweep.
FLOPS_PER_SECOND = 30e9
BYTES_PER_SECOND = 8e9
CALL_SECONDS = 4e-4  # of a block, beside its products
MAX_SWEEP_SECONDS = 30


@dataclass(frozen=True)
class Part:
    """A component that can be removed; ``words`` name it in a sentence."""

    component: Component

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def words(self) -> str:
        half, index = self.component.half, self.component.index
        if index is None:
            what = "attention" if half == "attn" else "MLP"
        else:
            what = f"{'head' if half == 'attn' else 'neuron'} {index}"
        return f"layer {self.component.layer}, {what}"


@dataclass(frozen=True)
class Row:
    """A token before and after, with its bars in units of ``BAR``."""

    piece: Piece
    found: Compared

    @property
    def widths(self) -> tuple[int, int]:
        before, after = self.found.before.probability, self.found.after.probability
        return round(BAR * before), round(BAR * after)


@dataclass(frozen=True)
class Result:
    """The next token with and without the chosen parts. ``explained`` is the chosen token's row."""

    explained: Row
    rows: tuple[Row, ...]
    n_changed: int
    n_vocab: int
    program: Program

    @property
    def changed(self) -> str:
        """How many logits changed, as a sentence."""
        if not self.n_changed:
            return f"Nothing changed: 0 of {self.n_vocab:,} logits."
        return f"{self.n_changed:,} of {self.n_vocab:,} logits changed."


@dataclass(frozen=True)
class SweepCell:
    """One head: how its removal changes the logit, and the likeliest token if it is another."""

    part: Part
    change: float
    css: str
    answer: Piece | None


@dataclass(frozen=True)
class SweepRow:
    layer: int
    cells: tuple[SweepCell, ...]


def parse_parts(values: Sequence[str], hparams: HParams) -> tuple[Part, ...]:
    """The parts in all values of the field ``parts``. Raises InputError."""
    h = hparams
    found = parse_components(",".join(values), h.n_layer, h.n_head, 4 * h.n_embd)
    return tuple(Part(component) for component in found)


def in_words(parts: Sequence[Part]) -> str:
    """``layer 3, head 1; layer 2, MLP``."""
    return "; ".join(part.words for part in parts)


def neuron_names(parts: Sequence[Part]) -> str:
    """The chosen neurons, as the form's text field has them."""
    neurons = (p for p in parts if p.component.half == "mlp" and p.component.index is not None)
    return ", ".join(part.name for part in neurons)


# Result


def result(view: View, parts: Sequence[Part], to: Replacement) -> Result:
    """The next token before and after. Raises Unavailable while another text is recorded."""
    found = run(view, [part.component for part in parts], to)
    ids = found.leaders(N_LEADERS)
    rows = [Row(view.piece(row.id), row) for row in found.comparison([view.token, *ids])]
    explained, *leaders = rows
    return Result(
        explained,
        tuple(leaders),
        found.n_changed,
        len(found.before),
        program(view, parts, to, explained),
    )


def run(view: View, components: Sequence[Component], to: Replacement) -> Ablation:
    recording = view.recording
    return view.recordings.in_turn(lambda: ablate(recording, view.position, components, to))


def program(view: View, parts: Sequence[Part], to: Replacement, explained: Row) -> Program:
    """The two logits by ``gpt2()`` with the weights as they are, and edited."""
    is_mean = to == "mean"
    names = [*(["mean_outputs"] if is_mean else []), "parse_components", "without"]
    edited = "params, n_head, parts" + (", mean_outputs(recording, parts)" if is_mean else "")
    code = [
        "from gpt2core import load_model",
        f"from gpt2core.inside.interventions import {', '.join(names)}",
        *(["from gpt2core.inside.recording import record_pass"] if is_mean else []),
        "from gpt2core.model import gpt2",
        "",
        f"model = load_model({view.model.name!r})",
        "params, h = model.params, model.hparams",
        "n_head = h.n_head",
        f"ids = {ids_of(view)}",
        *(["recording = record_pass(ids, params, n_head)"] if is_mean else []),
        f"names = {', '.join(part.name for part in parts)!r}",
        "parts = parse_components(names, h.n_layer, n_head, 4 * h.n_embd)",
        f"for weights in (params, without({edited})):",
        "    logits = gpt2(ids, **weights, n_head=n_head)",
        f'    print(f"{{logits[{view.position}, {view.token}]:.3f}}")',
        "",
    ]
    places = explained.found.before, explained.found.after
    return Program("\n".join(code), "\n".join(f"{place.logit:.3f}" for place in places))


# The same for the engine


def gates_without(parts: Sequence[Part], to: Replacement, hparams: HParams) -> Gates | None:
    """Gates that remove ``parts``; None where gates cannot: neurons, and means."""
    gates = Gates.ones(hparams)
    if to == "mean":
        return None
    for part in parts:
        component = part.component
        if component.index is None:
            (gates.attn if component.half == "attn" else gates.mlp)[component.layer] = 0
        elif component.half == "attn":
            gates.heads[component.layer, component.index] = 0
        else:
            return None
    return gates


# Sweep


def sweep_seconds(hparams: HParams, n_tokens: int) -> float:
    """How long a sweep of a text takes, about: each head's pass from its layer on."""
    h = hparams
    unembedding = 4 * h.n_vocab * h.n_embd / BYTES_PER_SECOND
    passes = grid_seconds(h, n_tokens, h.n_head, range(h.n_layer))
    return passes + 2 * h.n_layer * h.n_head * unembedding


def grid_seconds(hparams: HParams, n_tokens: int, n_columns: int, layers: Sequence[int]) -> float:
    """How long a row for each of ``layers`` takes: so many times the blocks from there on."""
    h, d = hparams, hparams.n_embd
    weights = 12 * d * d  # of a block
    products = 2 * n_tokens * weights + 4 * n_tokens**2 * d
    block = CALL_SECONDS + max(products / FLOPS_PER_SECOND, 4 * weights / BYTES_PER_SECOND)
    n_blocks = sum(h.n_layer - layer for layer in layers)
    return n_columns * n_blocks * block


def check_sweep(hparams: HParams, n_tokens: int) -> None:
    """Raise InputError, with both numbers, for a sweep that would take too long."""
    seconds = round(sweep_seconds(hparams, n_tokens))
    if seconds > MAX_SWEEP_SECONDS:
        raise InputError(
            f"Removing each of {hparams.n_layer * hparams.n_head:,} heads in turn would take about "
            f"{seconds:,} seconds for this text; at most {MAX_SWEEP_SECONDS} are spent.",
            "prompt",
            seconds=seconds,
            maximum=MAX_SWEEP_SECONDS,
        )


def sweep_rows(view: View, to: Replacement) -> Iterator[SweepRow]:
    """The heads of each layer, each removed alone. A row is computed when it is asked for."""
    scale = sweep_scale(view)
    for layer in range(view.recording.n_layer):
        heads = range(view.recording.n_head)
        yield SweepRow(layer, tuple(sweep_cell(view, layer, head, to, scale) for head in heads))


def sweep_cell(view: View, layer: int, head: int, to: Replacement, scale: float) -> SweepCell:
    part = Part(Component(layer, "attn", head))
    found = run(view, [part.component], to)
    change = float(found.after[view.token]) - float(found.before[view.token])
    best = int(found.after.argmax())
    answer = None if best == found.before.argmax() else view.piece(best)
    return SweepCell(part, change, signed_class(change, scale), answer)


def most(rows: Sequence[SweepRow]) -> str:
    """The head whose removal changes the logit most, as a sentence."""
    cell = max((cell for row in rows for cell in row.cells), key=lambda cell: abs(cell.change))
    return (
        f"The most: {cell.part.words}. Without it the logit changes by {fixed_signed(cell.change)}."
    )


def sweep_scale(view: View) -> float:
    """The change with the strongest ink: the largest direct share of a head in the logit.

    It is known before the first row is computed; a larger change has the same ink.
    """
    direction = logit_direction(view.recording, view.position, view.token)
    return float(np.abs(head_shares(view.recording, view.position, direction)).max())
