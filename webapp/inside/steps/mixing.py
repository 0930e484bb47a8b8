"""Steps 10 to 12: heads mix values, the projection joins them, the stream takes the sum."""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.heads import head_outputs, moved
from webapp.drawing import weight_class
from webapp.inside import numbers
from webapp.inside.labels import Label
from webapp.inside.pattern import pattern_of
from webapp.inside.steps.attention import SCORE, attention_program
from webapp.inside.steps.common import (
    N_PRINTED,
    Vector,
    agrees,
    largest_difference,
    of_block,
    print_row,
    printed,
    program,
    vector,
    vectors,
)
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View

MIX = [*SCORE, "heads = softmax(scores) @ v"]


@dataclass(frozen=True)
class MixRow:
    """One source token: the weight on it, the length of its value, how far it moves the stream."""

    label: Label
    weight: float
    length: float
    moved: float

    @property
    def css(self) -> str:
        return weight_class(self.weight)


def mix_glance(view: View) -> Glance:
    heads = view.recording.heads[view.layer]
    length = float(np.linalg.norm(heads[view.head, view.position]))
    return Glance("heads", heads.shape, f"head {view.head} hands over a vector of {length:.2f}")


def mix(view: View) -> Content:
    head, p = view.head, view.position
    v = view.block.array("mha.v")  # [n_head, n_seq, d_head]
    weights = pattern_of(view)[p]  # [n_seq]
    output = view.recording.heads[view.layer][head, p]  # [d_head]
    c_proj = view.model.params["blocks"][view.layer]["attn"]["c_proj"]
    moves = moved(view.recording.patterns[view.layer], v, c_proj)[head, p]  # [n_seq]
    lengths = np.linalg.norm(v[head], axis=-1)  # [n_seq]
    off = largest_difference(weights.astype(np.float64) @ v[head], output)
    before = view.window.n_before
    return Content(
        listings=(of_block(view, "attention", "mha.attention", ["return"], since="weights"),),
        picture={
            "rows": [
                MixRow(view.labels[i], float(weights[i]), float(lengths[i]), float(moves[i]))
                for i in range(view.window.start, p + 1)
            ],
            "before": (before, float(weights[:before].sum()), float(moves[:before].sum())),
            "vectors": [vector(f"heads[{head}, {p}]", "attention.return", output)],
        },
        checks=(
            Check(
                f"The weighted sum of {p + 1} values, added up here, is the head’s output to "
                f"{numbers.number(off, 2)}.",
                agrees(off, output),
            ),
        ),
        program=Program(
            attention_program(
                view, [*MIX, print_row(f"heads[{head}, {p}, :{N_PRINTED}]")], ("softmax",)
            ),
            printed(output[:N_PRINTED]),
        ),
    )


@dataclass(frozen=True)
class HeadRow:
    """What one head adds to the stream at the chosen token."""

    head: int
    vector: Vector


def projection_glance(view: View) -> Glance:
    n_head, n_seq, d_head = view.recording.heads[view.layer].shape
    return Glance("mha", (n_seq, n_head * d_head), f"{n_head} heads become one vector again")


def projection(view: View) -> Content:
    p = view.position
    c_proj = view.model.params["blocks"][view.layer]["attn"]["c_proj"]
    heads = view.recording.heads[view.layer][:, p : p + 1]  # [n_head, 1, d_head]
    outputs = head_outputs(heads, c_proj)[:, 0]  # [n_head, n_embd]
    result = view.block.array("mha.return")[p]  # [n_embd]
    off = largest_difference(outputs.sum(axis=0, dtype=np.float64) + c_proj["b"], result)
    scale = float(np.abs(outputs).max())
    lengths = np.linalg.norm(outputs, axis=-1)  # [n_head]
    shown = sorted(np.argsort(-lengths, kind="stable")[:MAX_HEADS].tolist())
    rows = [
        HeadRow(head, vector(f"head {head}", "mha.return", outputs[head], scale)) for head in shown
    ]
    return Content(
        listings=(of_block(view, "mha", "mha", ["heads[1]", "x[2]", "return"], since="heads"),),
        picture={
            "heads": rows,
            "n_hidden": len(outputs) - len(shown),
            "lengths": [float(length) for length in lengths],
            "vectors": [vector(f"mha[{p}]", "mha.return", result)],
        },
        checks=(
            Check(
                f"What {len(outputs)} heads add, plus the bias, is the output of mha to "
                f"{numbers.number(off, 2)}.",
                agrees(off, result),
            ),
        ),
        program=Program(
            attention_program(
                view,
                [
                    *MIX,
                    "x = linear(heads.transpose(1, 0, 2).reshape(len(ids), -1), "
                    '**block["attn"]["c_proj"])',
                    print_row(f"x[{p}, :{N_PRINTED}]"),
                ],
                ("softmax",),
            ),
            printed(result[:N_PRINTED]),
        ),
    )


MAX_HEADS = 12  # whose vectors are drawn; the lengths of all are in the table


def stream_glance(view: View) -> Glance:
    x = view.recording.residual_mid[view.layer]
    before = view.recording.residual[view.layer]
    lengths = [float(np.linalg.norm(state[view.position])) for state in (before, x)]
    return Glance("x", x.shape, f"length {lengths[0]:.2f} becomes {lengths[1]:.2f}")


def stream(view: View) -> Content:
    p, layer = view.position, view.layer
    before, after = view.recording.residual[layer][p], view.recording.residual_mid[layer][p]
    added = view.block.array("mha.return")[p]
    off = largest_difference(after.astype(np.float64) - before, added)
    return Content(
        listings=(of_block(view, "transformer_block", "", ["x"]),),
        picture={
            "vectors": vectors(
                (f"x[{p}] before", "gpt2.x", before),
                (f"mha[{p}]", "mha.return", added),
                (f"x[{p}] after", "transformer_block.x", after),
            ),
            "signs": ("", "+", "="),
        },
        checks=(
            Check(
                f"x[{p}] after − x[{p}] before − mha[{p}] = {numbers.number(off, 2)} at most.",
                agrees(off, after),
            ),
        ),
        program=Program(
            program(
                view,
                ("layer_norm", "mha"),
                [
                    f'block = params["blocks"][{layer}]',
                    'x = x + mha(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=n_head)',
                    print_row(f"x[{p}, :{N_PRINTED}]"),
                ],
                layer,
            ),
            printed(after[:N_PRINTED]),
        ),
    )


MIX_STEP = Step(
    10,
    "mix",
    "Heads mix values",
    "Each head adds up the values of all tokens it looks at, each times its weight.",
    "This is how information moves: a little of every token looked at arrives at the one that "
    "looks. A large weight on a short value moves little, so the table has both.",
    mix_glance,
    mix,
    marks=("attention.return",),
)
PROJECTION = Step(
    11,
    "projection",
    "Project: heads become one",
    "The outputs of all heads are put side by side and multiplied with one matrix.",
    "The matrix decides where in the stream each head writes. Its rows belong to one head each, "
    "so what a head adds can be told apart, and the parts add up to the whole.",
    projection_glance,
    projection,
    marks=("mha.heads[1]", "mha.x[2]", "mha.return"),
    chooses_head=False,
)
STREAM = Step(
    12,
    "stream",
    "Into the stream",
    "What attention found is added to the vector that came in: nothing is overwritten.",
    "The vector that every part reads from and adds to is the residual stream. Because parts only "
    "add, the answer at the end is a sum in which each part’s share can be told.",
    stream_glance,
    stream,
    marks=("transformer_block.x",),
    chooses_head=False,
)
