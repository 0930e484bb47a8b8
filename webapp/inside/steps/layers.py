"""Steps 13 and 14: the feed-forward network, and the same again in every layer."""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.attribution import attribution
from gpt2core.inside.lens import leading
from gpt2core.inside.recording import early_logits
from webapp.inside import numbers
from webapp.inside.labels import Piece
from webapp.inside.source import listing
from webapp.inside.steps.common import (
    N_PRINTED,
    agrees,
    choice_of,
    largest_difference,
    of_block,
    print_row,
    printed,
    program,
    vectors,
)
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View

N_NEURONS = 10  # that are named
N_DOTS = 160  # of the curve's picture


@dataclass(frozen=True)
class Neuron:
    """One unit of the hidden layer: what goes into gelu and what comes out."""

    index: int
    before: float
    after: float


@dataclass(frozen=True)
class Dot:
    """A neuron on the curve, in whole units of the picture."""

    x: int
    y: int


def ffn_glance(view: View) -> Glance:
    n_seq, n_embd = view.recording.residual[0].shape
    return Glance("a", (n_seq, 4 * n_embd), f"{4 * n_embd:,} neurons look at each token")


def ffn(view: View) -> Content:
    p, block = view.position, view.block
    before = block.array("ffn.linear.return")[p]  # [4*n_embd]
    after = block.array("ffn.a")[p]  # [4*n_embd]
    middle, added, result = (
        view.recording.residual_mid[view.layer][p],
        block.array("ffn.return")[p],
        block.array("return")[p],
    )
    off = largest_difference(result.astype(np.float64) - middle, added)
    order = np.argsort(-np.abs(after), kind="stable")[:N_NEURONS]
    active = int((after > 0.1).sum())
    return Content(
        listings=(
            of_block(view, "ffn", "ffn", ["a", "return"]),
            of_block(view, "gelu", "ffn.gelu", ["inner", "return"]),
            of_block(view, "transformer_block", "", ["return"]),
        ),
        picture={
            "neurons": [Neuron(int(i), float(before[i]), float(after[i])) for i in order],
            "n_neurons": len(after),
            "active": active,
            "dots": dots(before, after),
            "vectors": vectors(
                (f"x[{p}] before", "transformer_block.x", middle),
                (f"ffn[{p}]", "ffn.return", added),
                (f"x[{p}] after", "transformer_block.return", result),
            ),
            "signs": ("", "+", "="),
        },
        checks=(
            Check(
                f"x[{p}] after − x[{p}] before − ffn[{p}] = {numbers.number(off, 2)} at most.",
                agrees(off, result),
            ),
        ),
        program=Program(
            program(
                view,
                ("ffn", "layer_norm", "mha"),
                [
                    f'block = params["blocks"][{view.layer}]',
                    'x = x + mha(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=n_head)',
                    'x = x + ffn(layer_norm(x, **block["ln_2"]), **block["mlp"])',
                    print_row(f"x[{p}, :{N_PRINTED}]"),
                ],
                view.layer,
            ),
            printed(result[:N_PRINTED]),
        ),
    )


def dots(before: np.ndarray, after: np.ndarray) -> list[Dot]:
    """Neurons as dots of the curve, -4 to 4 across and -1 to 4 up, 40 units to 1; each place
    once."""
    inside = (np.abs(before) <= 4) & (after <= 4)
    places = {
        Dot(round(40 * (float(x) + 4)), round(40 * (4 - float(y))))
        for x, y in zip(before[inside], after[inside], strict=True)
    }
    return sorted(places, key=lambda dot: (dot.x, dot.y))[:: max(1, len(places) // N_DOTS)]


@dataclass(frozen=True)
class LayerRow:
    """The stream of the chosen token around one layer, and what it would say if read there."""

    layer: int
    before: float
    middle: float
    after: float
    guess: Piece
    probability: float


def layers_glance(view: View) -> Glance:
    recording = view.recording
    length = float(np.linalg.norm(recording.residual[-1][view.position]))
    return Glance(
        "x", recording.residual[-1].shape, f"after {recording.n_layer} layers length {length:.2f}"
    )


def layers(view: View) -> Content:
    p, recording = view.position, view.recording
    column = np.stack([state[p] for state in recording.residual[1:]])  # [n_layer, n_embd]
    ids, probabilities = leading(early_logits(column, recording.params))
    length = np.linalg.norm
    rows = [
        LayerRow(
            layer,
            float(length(recording.residual[layer][p])),
            float(length(recording.residual_mid[layer][p])),
            float(length(recording.residual[layer + 1][p])),
            view.piece(ids[layer]),
            float(probabilities[layer]),
        )
        for layer in range(recording.n_layer)
    ]
    parts = attribution(recording, p, view.token)
    last = recording.residual[-1][p]
    return Content(
        listings=(
            listing("gpt2", "gpt2", ["x", "x[1]"], recording.trace, choice_of(view)),
            of_block(view, "transformer_block", "", ["x", "return"]),
        ),
        picture={"rows": rows, "token": view.piece(view.token)},
        checks=(
            Check(
                f"Embedding and {2 * recording.n_layer} parts, each read by the final norm, add up "
                f"to the logit {numbers.number(parts.logit)} within "
                f"{numbers.number(abs(parts.total - parts.logit), 2)}.",
                abs(parts.total - parts.logit) <= 1e-3 * max(1.0, abs(parts.logit)),
            ),
        ),
        program=Program(
            program(view, (), [print_row(f"x[{p}, :{N_PRINTED}]")], recording.n_layer),
            printed(last[:N_PRINTED]),
        ),
    )


FFN = Step(
    13,
    "ffn",
    "Widen, gelu, narrow",
    "Each token’s normed vector is widened four times, passed through gelu, and brought back; the "
    "result is added to the stream.",
    "Attention moves information between tokens; this part works on each token alone. A neuron "
    "answers to a pattern in the stream, and where gelu lets it through it adds its own row.",
    ffn_glance,
    ffn,
    marks=("ffn.a", "ffn.return", "gelu.inner", "gelu.return", "transformer_block.return"),
    chooses_head=False,
    group="MLP",
)
LAYERS = Step(
    14,
    "layers",
    "The same again",
    "Steps 5 to 13 are repeated, layer after layer, each with weights of its own.",
    "Early layers gather what stands around a token, later ones work towards what comes next. "
    "Read early, with the end’s norm and vocabulary, the stream shows a guess; the model was "
    "never trained to be read there.",
    layers_glance,
    layers,
    marks=("gpt2.x[1]",),
    related=("instruments.lens_page", "instruments.attribution_page"),
    chooses_head=False,
    group="layers",
)
