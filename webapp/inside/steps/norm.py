"""Steps 5 and 15: layer norm, before attention and at the end."""

from collections.abc import Sequence

import numpy as np

from gpt2core.inside.recording import EPSILON
from webapp.inside import numbers
from webapp.inside.source import Listing, listing
from webapp.inside.steps.common import (
    N_PRINTED,
    Vector,
    choice_of,
    of_block,
    print_row,
    printed,
    program,
    vector,
)
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View


def norm_glance(view: View) -> Glance:
    x = view.recording.residual[view.layer]
    mean, deviation = mean_and_deviation(x[view.position])
    figure = f"minus its mean, {numbers.number(mean, 3)}, then ÷ {deviation:.3f}"
    return Glance("layer_norm", x.shape, figure)


def norm(view: View) -> Content:
    p, layer = view.position, view.layer
    before, after = view.recording.residual[layer][p], view.block.array("layer_norm.return")[p]
    ln_1 = view.model.params["blocks"][layer]["ln_1"]
    return Content(
        listings=(
            of_block(
                view,
                "layer_norm",
                "layer_norm",
                ["mean", "centred", "variance", "return"],
            ),
        ),
        picture=picture(before, after, f"x[{p}]", "gpt2.x[1]" if layer else "gpt2.x"),
        checks=checks(after, ln_1["g"], ln_1["b"]),
        program=Program(
            program(
                view,
                ("layer_norm",),
                [
                    f'x = layer_norm(x, **params["blocks"][{layer}]["ln_1"])',
                    print_row(f"x[{p}, :{N_PRINTED}]"),
                ],
                layer,
            ),
            printed(after[:N_PRINTED]),
        ),
    )


def mean_and_deviation(x: np.ndarray) -> tuple[float, float]:
    """What layer norm subtracts from a row and divides it by: ``[n_embd] -> float, float``."""
    wide = x.astype(np.float64)
    return float(wide.mean()), float(np.sqrt(wide.var() + EPSILON))


def picture(before: np.ndarray, after: np.ndarray, name: str, anchor: str) -> dict[str, object]:
    mean, deviation = mean_and_deviation(before)
    drawn: Sequence[Vector] = [
        vector(f"{name} before", anchor, before),
        vector(f"{name} after", "layer_norm.return", after),
    ]
    return {"vectors": drawn, "mean": mean, "deviation": deviation}


def checks(after: np.ndarray, g: np.ndarray, b: np.ndarray) -> tuple[Check, ...]:
    """Before ``g`` and ``b`` a normed row has mean 0 and variance 1, but for epsilon."""
    plain = (after.astype(np.float64) - b)[g != 0] / g[g != 0]
    mean, variance = float(plain.mean()), float(plain.var())
    return (
        Check(
            f"Before g and b the row has mean {numbers.fixed(mean, 6)} and variance "
            f"{numbers.fixed(variance, 6)}; eps, {EPSILON:g}, keeps it just under 1.",
            abs(mean) < 1e-3 and abs(variance - 1) < 1e-2,
        ),
    )


def final_glance(view: View) -> Glance:
    divisor = float(view.recording.divisors[view.position])
    return Glance(
        "layer_norm", view.recording.residual[-1].shape, f"÷ {divisor:.3f}, the last time"
    )


def final_listings(view: View) -> tuple[Listing, ...]:
    names = ["mean", "centred", "variance", "return"]
    ending, choice = view.ending, choice_of(view)
    return (
        listing("unembed", "gpt2.unembed", ["x"], ending, choice, until="x"),
        listing("layer_norm", "gpt2.unembed.layer_norm", names, ending, choice),
    )


def final(view: View) -> Content:
    p, ln_f = view.position, view.model.params["ln_f"]
    before = view.recording.residual[-1][p]
    after = view.ending.array("gpt2.unembed.layer_norm.return")[p]
    return Content(
        listings=final_listings(view),
        picture=picture(before, after, f"x[{p}]", "transformer_block.return"),
        checks=checks(after, ln_f["g"], ln_f["b"]),
        program=Program(
            program(
                view,
                ("layer_norm",),
                ['x = layer_norm(x, **params["ln_f"])', print_row(f"x[{p}, :{N_PRINTED}]")],
                view.recording.n_layer,
            ),
            printed(after[:N_PRINTED]),
        ),
    )


NORM = Step(
    5,
    "norm",
    "Layer norm",
    "Each token’s vector is brought to mean 0 and variance 1, then scaled and shifted, channel by "
    "channel, by numbers that were learned.",
    "The stream grows from layer to layer; what reads it needs numbers of one size. The stream "
    "itself is not changed: the normed copy goes into attention, and the original goes on.",
    norm_glance,
    norm,
    marks=("layer_norm.mean", "layer_norm.centred", "layer_norm.variance", "layer_norm.return"),
    chooses_head=False,
    group="attention",
)
FINAL_NORM = Step(
    15,
    "final",
    "Final norm",
    "After the last layer the stream is normed once more.",
    "The number it is divided by is fixed for this token and this text, so every part’s share of "
    "an answer is divided by the same number: that is why shares can be added up.",
    final_glance,
    final,
    marks=("unembed.x",),
    chooses_layer=False,
    chooses_head=False,
    group="answer",
)
