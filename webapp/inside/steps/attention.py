"""Steps 6 to 9: queries, keys and values; scores; mask; softmax."""

import math
from dataclasses import dataclass

import numpy as np

from webapp.drawing import weight_class
from webapp.inside import numbers
from webapp.inside.labels import Label
from webapp.inside.pattern import (
    pattern_matrix,
    pattern_of,
    pattern_row,
    strongest_key,
    terms,
)
from webapp.inside.steps.common import (
    N_PRINTED,
    agrees,
    largest_difference,
    of_block,
    print_row,
    printed,
    program,
    vectors,
)
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View

NORM = 'block = params["blocks"][{}]'
ATTEND = [
    'x = linear(layer_norm(x, **block["ln_1"]), **block["attn"]["c_attn"])',
    "x = x.reshape(len(ids), 3, n_head, -1)",
    "q, k, v = x.transpose(1, 2, 0, 3)",
]
SCORE = [
    "mask = (1 - np.tri(len(ids), dtype=np.float32)) * -1e10",
    "scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5 + mask",
]


def attention_program(view: View, lines: list[str], imports: tuple[str, ...] = ()) -> str:
    """A program up to q, k and v of the chosen layer, then ``lines``."""
    start = [NORM.format(view.layer), *ATTEND]
    code = program(view, ("layer_norm", "linear", *imports), [*start, *lines], view.layer)
    return f"import numpy as np\n{code}" if any("np." in line for line in lines) else code


# 6


def qkv_glance(view: View) -> Glance:
    n_head, n_seq, d_head = view.recording.heads[view.layer].shape
    return Glance("q, k, v", (n_head, n_seq, d_head), f"three vectors of {d_head} for each head")


def qkv(view: View) -> Content:
    head, p, block = view.head, view.position, view.block
    q, k, v = (block.array(f"mha.{name}")[head, p] for name in "qkv")
    normed = block.array("layer_norm.return")[p]
    c_attn = view.model.params["blocks"][view.layer]["attn"]["c_attn"]
    columns = slice(head * len(q), (head + 1) * len(q))
    by_hand = normed @ c_attn["w"][:, columns] + c_attn["b"][columns]  # [d_head]
    off = largest_difference(by_hand, q)
    return Content(
        listings=(of_block(view, "mha", "mha", ["x", "x[1]", "q"], until="q"),),
        picture={
            "vectors": vectors(
                (f"q[{head}, {p}]", "mha.q", q),
                (f"k[{head}, {p}]", "mha.k", k),
                (f"v[{head}, {p}]", "mha.v", v),
            ),
            "meanings": ("what it looks for", "what it offers to those who look", "what it gives"),
        },
        checks=(
            Check(
                f"The normed row times columns {columns.start} to {columns.stop - 1} of c_attn.w, "
                f"plus the bias, is q[{head}, {p}] to {numbers.number(off, 2)}.",
                agrees(off, q),
            ),
        ),
        program=Program(
            attention_program(view, [print_row(f"q[{head}, {p}, :{N_PRINTED}]")]),
            printed(q[:N_PRINTED]),
        ),
    )


# 7 and 8


@dataclass(frozen=True)
class ScoreRow:
    """One key: the product of query and key, the score, and the score with the mask added."""

    label: Label
    product: float
    scaled: float
    mask: float
    masked: float


def score_rows(view: View) -> list[ScoreRow]:
    """The chosen query against every key of the window, those after it included."""
    head, p, block = view.head, view.position, view.block
    q, k = block.array("mha.q")[head, p], block.array("mha.k")[head]  # [d_head], [n_seq, d_head]
    products = (k @ q).astype(np.float64)  # [n_seq]
    mask, scores = block.array("mha.mask")[p], block.array("mha.attention.scores")[head, p]
    root = math.sqrt(len(q))
    return [
        ScoreRow(
            view.labels[i],
            float(products[i]),
            float(products[i]) / root,
            float(mask[i]),
            float(scores[i]),
        )
        for i in view.window.positions
    ]


def earlier_scores(view: View) -> str:
    """In words, the scores of the keys before the window, which are not drawn."""
    scores = view.block.array("mha.attention.scores")[view.head, view.position]
    before = scores[: view.window.n_before]
    if not before.size:
        return ""
    low, high = numbers.number(before.min()), numbers.number(before.max())
    return f"{before.size} earlier tokens are not drawn; their scores lie from {low} to {high}."


def scores_glance(view: View) -> Glance:
    pattern = view.recording.patterns[view.layer]
    d_head = view.recording.heads[view.layer].shape[-1]
    return Glance("scores", pattern.shape, f"each a sum of {d_head} products, ÷ √{d_head}")


def scores(view: View) -> Content:
    head, p = view.head, view.position
    found = terms(view, strongest_key(view))
    key = found.key.at - 1
    off = abs(found.total / found.weight.root - found.weight.score)
    return Content(
        listings=(
            of_block(
                view, "attention", "mha.attention", ["d_head", "k_t", "scores"], until="scores"
            ),
        ),
        picture={"terms": found, "rows": score_rows(view), "earlier": earlier_scores(view)},
        checks=(
            Check(
                f"{numbers.number(found.total)} ÷ {numbers.number(found.weight.root)} is the score "
                f"that the line made, {numbers.number(found.weight.score)}, to "
                f"{numbers.number(off, 2)}.",
                agrees(off, np.array([found.total])),
            ),
        ),
        program=Program(
            attention_program(
                view,
                [
                    f"products = q[{head}, {p}] * k[{head}, {key}]",
                    "total = products.sum()",
                    'print(f"{total:.3f} {total / len(products) ** 0.5:.3f}")',
                ],
            ),
            f"{found.total:.3f} {found.total / found.weight.root:.3f}",
        ),
    )


def mask_glance(view: View) -> Glance:
    n = view.recording.n_tokens
    return Glance("mask", (n, n), f"{n * (n - 1) // 2:,} of {n * n:,} pairs are forbidden")


def mask(view: View) -> Content:
    head, p, n = view.head, view.position, view.recording.n_tokens
    weights = view.block.array("mha.attention.weights")[head]
    later = weights[np.triu_indices(n, k=1)]
    row = view.block.array("mha.attention.scores")[head, p]
    shown = row[:N_PRINTED]
    return Content(
        listings=(
            of_block(view, "mha", "mha", ["mask"], since="mask", until="mask"),
            of_block(
                view, "attention", "mha.attention", ["scores"], since="scores", until="scores"
            ),
        ),
        picture={"rows": score_rows(view), "earlier": earlier_scores(view)},
        checks=(
            Check(
                f"All {later.size:,} weights on later tokens are exactly 0; their sum is "
                f"{numbers.number(later.sum(dtype=np.float64))}.",
                not later.any(),
            ),
        ),
        program=Program(
            attention_program(view, [*SCORE, print_row(f"scores[{head}, {p}, :4]")]),
            printed(shown),
        ),
    )


# 9


@dataclass(frozen=True)
class SoftmaxRow:
    """One key: score, power, weight."""

    label: Label
    score: float
    power: float
    weight: float

    @property
    def css(self) -> str:
        return weight_class(self.weight)


def softmax_glance(view: View) -> Glance:
    pattern = pattern_of(view)
    key = strongest_key(view)
    weight = float(pattern[view.position, key])
    looks = f"{view.chosen.spoken} looks most at {view.labels[key].spoken}, {weight:.3f}"
    return Glance("weights", view.recording.patterns[view.layer].shape, looks)


def softmax(view: View) -> Content:
    head, p, block = view.head, view.position, view.block
    score = block.array("mha.attention.scores")[head, p]
    power = block.array("mha.attention.softmax.e")[head, p]
    weight = block.array("mha.attention.weights")[head, p]
    pattern = pattern_of(view)
    total = float(weight.sum(dtype=np.float64))
    drawn = range(view.window.start, p + 1)
    return Content(
        listings=(
            of_block(view, "softmax", "mha.attention.softmax", ["e", "return"]),
            of_block(
                view, "attention", "mha.attention", ["weights"], since="scores", until="weights"
            ),
        ),
        picture={
            "row": pattern_row(view, pattern, p),
            "matrix": pattern_matrix(view, pattern),
            "rows": [
                SoftmaxRow(view.labels[i], float(score[i]), float(power[i]), float(weight[i]))
                for i in drawn
            ],
            "before": (
                view.window.n_before,
                float(power[: view.window.n_before].sum()),
                float(weight[: view.window.n_before].sum()),
            ),
            "power_sum": float(power.sum(dtype=np.float64)),
            "total": total,
            "highest": float(score.max()),
        },
        checks=(
            Check(f"The row of token {p + 1} adds up to {total:.7f}.", abs(total - 1) < 1e-6),
            Check(
                f"All {view.recording.n_tokens} rows of this head add up to 1 within "
                f"{numbers.number(row_error(pattern), 2)}.",
                row_error(pattern) < 1e-6,
            ),
        ),
        program=Program(
            attention_program(
                view,
                [
                    *SCORE,
                    "weights = softmax(scores)",
                    print_row(f"weights[{head}, {p}, :{N_PRINTED}]"),
                ],
                ("softmax",),
            ),
            printed(weight[:N_PRINTED]),
        ),
    )


def row_error(pattern: np.ndarray) -> float:
    """How far a row's sum is from 1 at most."""
    return float(np.abs(pattern.sum(axis=-1, dtype=np.float64) - 1).max())


QKV = Step(
    6,
    "qkv",
    "Queries, keys, values",
    "Three new vectors are made of each token’s normed row, for each head: a query, a key and a "
    "value.",
    "Tokens exchange information here, and only here. The query says what a token looks for, the "
    "key what another one offers, the value what it gives if it is looked at. A head is one set "
    "of learned matrices for these three; all heads of a layer work side by side.",
    qkv_glance,
    qkv,
    marks=("mha.q",),
)
SCORES = Step(
    7,
    "scores",
    "Scores: query times key",
    "For each pair of tokens the query of one is multiplied with the key of the other, channel by "
    "channel, and the products are added up.",
    "A large sum means that what one looks for is what the other offers. It is divided by the "
    "root of the number of channels, so that more channels do not make every score extreme.",
    scores_glance,
    scores,
    marks=("attention.k_t", "attention.scores"),
)
MASK = Step(
    8,
    "mask",
    "Mask: no look ahead",
    "−10,000,000,000 is added to the score of every token that comes later.",
    "The model was trained to say what comes next, so no token may see what follows it. After the "
    "next step such a score is a weight of exactly 0.",
    mask_glance,
    mask,
    marks=("mha.mask",),
)
SOFTMAX = Step(
    9,
    "softmax",
    "Softmax: scores to weights",
    "Each row of scores becomes weights between 0 and 1 that add up to 1: where this token looks, "
    "in this head.",
    "e to the power of a score is positive, and grows fast, so the best matches take nearly all. "
    "Many heads put most of a row on the first token: a row has to add up to 1, and that is where "
    "a head looks that has nothing to say here. A weight says where it looked, not why.",
    softmax_glance,
    softmax,
    marks=("attention.weights", "softmax.e", "softmax.return"),
    related=("instruments.heads_page",),
)
