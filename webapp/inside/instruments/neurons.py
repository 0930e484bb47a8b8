"""Neurons: the hidden layer of one MLP at one token, the strongest ten, and one of them.

Strongest is a neuron that adds most: activation times the length of its row of ``c_proj``.

Invariants: the histogram counts every neuron; the terms of the chosen one add up to its input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2core.inside.attribution import by_neuron, logit_direction
from gpt2core.inside.document import in_range
from gpt2core.inside.vocabulary import activations, tokens_read, tokens_written
from gpt2core.sampling import most_likely
from webapp.inside import numbers
from webapp.inside.labels import Piece
from webapp.inside.steps.common import agrees
from webapp.inside.steps.step import Check
from webapp.inside.view import View

N_STRONGEST, N_TERMS, N_TOKENS = 10, 10, 5
N_BINS = 20
WIDTH, HEIGHT = 600, 160  # of the histogram, in units of its view box
CURVE = 160  # half the width of gelu's picture, in units; input 0 and output 0 lie at (160, 160)
MIN_EDGE = 4  # inputs from -4 to 4 at least are drawn


@dataclass(frozen=True)
class Bin:
    """One bar of the histogram: ``n`` neurons from ``start`` to ``stop``."""

    start: float
    stop: float
    n: int
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Neuron:
    """One neuron at the chosen token.

    ``adds`` is the length of what it adds to the residual stream, ``share`` its direct share of
    the explained logit. ``reads`` excite it most; it raises ``up`` and lowers ``down`` most.
    """

    index: int
    before: float
    activation: float
    adds: float
    share: float
    reads: tuple[Piece, ...]
    up: tuple[Piece, ...]
    down: tuple[Piece, ...]


@dataclass(frozen=True)
class Term:
    """One input of the chosen neuron: ``x`` times its weight."""

    channel: int
    x: float
    weight: float

    @property
    def product(self) -> float:
        return self.x * self.weight


@dataclass(frozen=True)
class Opened:
    """The chosen neuron: terms, the sum of all others, the bias, and its dot on the curve."""

    neuron: Neuron
    terms: tuple[Term, ...]
    n_others: int
    others: float
    bias: float
    x: float
    y: float
    check: Check


@dataclass(frozen=True)
class NeuronsPage:
    bins: tuple[Bin, ...]
    n_neurons: int
    n_active: int
    strongest: tuple[Neuron, ...]
    opened: Opened
    curve: str
    edge: int


def page_of(view: View, chosen: int | None) -> NeuronsPage:
    """The whole page. Raises InputError for a neuron that the layer does not have."""
    a = view.block.array("ffn.a")[view.position]  # [4*n_embd]
    c_proj = view.recording.params["blocks"][view.layer]["mlp"]["c_proj"]
    adds = np.abs(a) * np.linalg.norm(c_proj["w"], axis=1)  # [4*n_embd]
    indices = most_likely(adds, N_STRONGEST).tolist()
    if chosen is None:
        chosen = indices[0]
    in_range("neuron", "Neuron", chosen, 0, len(a) - 1)
    described = neurons(view, [*indices, chosen], adds)
    edge = max(MIN_EDGE, math.ceil(abs(described[-1].before)))
    return NeuronsPage(
        bins=histogram(a),
        n_neurons=len(a),
        n_active=int((a > 0.1).sum()),
        strongest=described[:-1],
        opened=opened(view, described[-1], edge),
        curve=curve(edge),
        edge=edge,
    )


def neurons(view: View, indices: Sequence[int], adds: np.ndarray) -> tuple[Neuron, ...]:
    """The neurons at ``indices``; ``adds [4*n_embd]`` are the lengths that all of them add."""
    params, layer, p = view.recording.params, view.layer, view.position
    before, after = (view.block.array(f"ffn.{name}")[p] for name in ("linear.return", "a"))
    direction = logit_direction(view.recording, p, view.token, view.query.against)
    shares = by_neuron(view.recording, view.block, p, direction).values  # [4*n_embd]
    read = tokens_read(params, layer, indices)  # [n_vocab, len(indices)]
    written = tokens_written(params, layer, indices)  # [n_vocab, len(indices)]
    return tuple(
        Neuron(
            index,
            float(before[index]),
            float(after[index]),
            float(adds[index]),
            float(shares[index]),
            pieces(view, read[:, column]),
            pieces(view, written[:, column]),
            pieces(view, -written[:, column]),
        )
        for column, index in enumerate(indices)
    )


def pieces(view: View, values: np.ndarray) -> tuple[Piece, ...]:
    """The tokens with the largest of ``values [n_vocab]`` that the tokenizer has."""
    return tuple(view.piece(id) for id in view.largest(values, N_TOKENS))


def histogram(a: np.ndarray) -> tuple[Bin, ...]:
    """All activations ``[4*n_embd]`` in bins of equal width."""
    counts, edges = np.histogram(a, N_BINS)
    width, highest = WIDTH / N_BINS, int(counts.max())
    return tuple(
        Bin(float(start), float(stop), int(n), i * width, HEIGHT * (1 - n / highest), width - 2)
        for i, (n, start, stop) in enumerate(zip(counts, edges, edges[1:], strict=False))
    )


def opened(view: View, neuron: Neuron, edge: int) -> Opened:
    """How the neuron's input comes about, and where it lies on the curve."""
    c_fc = view.recording.params["blocks"][view.layer]["mlp"]["c_fc"]
    x = view.block.array("layer_norm[1].return")[view.position].astype(np.float64)  # [n_embd]
    weights = c_fc["w"][:, neuron.index].astype(np.float64)  # [n_embd]
    order = most_likely(np.abs(x * weights), N_TERMS)
    bias = float(c_fc["b"][neuron.index])
    others = float(np.delete(x * weights, order).sum())
    off = abs(float(x @ weights) + bias - neuron.before)
    return Opened(
        neuron,
        tuple(Term(int(i), float(x[i]), float(weights[i])) for i in order),
        len(x) - len(order),
        others,
        bias,
        *point(neuron.before, edge),
        Check(
            f"All products and the bias, added up here, are the neuron’s input to "
            f"{numbers.number(off, 2)}.",
            agrees(off, np.abs(x * weights)),
        ),
    )


def point(value: float, edge: int) -> tuple[float, float]:
    """The place of an input on the curve of gelu, drawn from ``-edge`` to ``edge``."""
    out = float(activations(np.array(value)))
    return round(CURVE * (1 + value / edge), 1), round(CURVE * (1 - out / edge), 1)


def curve(edge: int) -> str:
    """Points of a polyline: gelu from ``-edge`` to ``edge``."""
    places = (point(float(value), edge) for value in np.linspace(-edge, edge, 161))
    return " ".join(f"{x:g},{y:g}" for x, y in places)
