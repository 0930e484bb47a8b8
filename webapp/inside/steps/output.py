"""Steps 16 to 18: logits, what the controls leave of them, and the draw."""

import inspect
from dataclasses import dataclass

import numpy as np

from gpt2core import sampling
from gpt2core.inside.funnel import Funnel, funnel
from gpt2core.sampling import N_CANDIDATES, log_softmax, most_likely
from webapp.inside import numbers
from webapp.inside.labels import Piece
from webapp.inside.source import listing
from webapp.inside.steps.common import agrees, choice_of, program
from webapp.inside.steps.lookback import look_back
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View

N_KEPT = 12  # tokens of the funnel's end that are named
N_LARGEST = 8  # sums that are shown, the largest first
N_LIKELIEST = 4  # likeliest tokens that are shown beside them
UNITS = 1000  # width of a sum's picture


@dataclass(frozen=True)
class Candidate:
    """A token of the vocabulary as the next one."""

    piece: Piece
    logit: float
    probability: float


def candidates(view: View) -> list[Candidate]:
    """The likeliest next tokens, likeliest first."""
    logits = view.recording.logits(view.position)
    probabilities = np.exp(log_softmax(logits))
    return [
        Candidate(view.piece(id), float(logits[id]), float(probabilities[id]))
        for id in most_likely(logits, N_CANDIDATES)
    ]


def logits_glance(view: View) -> Glance:
    best = candidates(view)[0]
    name = best.piece.piece
    dimensions = (view.recording.n_tokens, view.recording.n_vocab)
    return Glance("logits", dimensions, f"“{name}” is likeliest, {best.probability:.1%}")


def logits(view: View) -> Content:
    p, found = view.position, candidates(view)
    row = view.ending.array("gpt2.unembed.x")[p].astype(np.float64)  # [n_embd]
    best = found[0]
    wte = view.model.params["wte"][best.piece.id].astype(np.float64)
    made = float(view.ending.array("gpt2.unembed.return")[p, best.piece.id])
    off = abs(float(row @ wte) - made)
    return Content(
        listings=(listing("unembed", "gpt2.unembed", ["return"], view.ending, choice_of(view)),),
        picture={"candidates": found, "n_vocab": view.recording.n_vocab},
        checks=(
            Check(
                f"The normed row times wte[{best.piece.id}] is {numbers.number(float(row @ wte))}; "
                f"the logit that the line made is {numbers.number(made)}.",
                agrees(off, np.array([made])),
            ),
        ),
        program=Program(
            program(
                view,
                ("unembed",),
                [
                    'logits = unembed(x, params["wte"], params["ln_f"])',
                    f"best = logits[{p}].argmax()",
                    f'print(best, f"{{logits[{p}, best]:.3f}}")',
                ],
                view.recording.n_layer,
            ),
            f"{best.piece.id} {best.logit:.3f}",
        ),
    )


@dataclass(frozen=True)
class Kept:
    """One of the tokens that a draw can give. ``before`` is the model's own probability."""

    piece: Piece
    before: float
    probability: float


@dataclass(frozen=True)
class Contender:
    """A token with its sum. ``place`` is that of the sum, 1 for the largest, which is drawn.

    ``start`` and ``end`` are the log-probability and the sum in the picture, in units.
    """

    piece: Piece
    place: int
    probability: float
    log_probability: float
    noise: float
    sum: float
    start: float
    end: float

    @property
    def is_drawn(self) -> bool:
        return self.place == 1


def funnel_of(view: View) -> Funnel:
    """The draw after the chosen token, with the fields' temperature, top-k, top-p and seed."""
    logits = view.recording.logits(view.position)
    return funnel(logits, view.query.sampling, view.position + 1)


def kept_tokens(view: View, found: Funnel) -> list[Kept]:
    """The likeliest of the tokens that are left."""
    return [
        Kept(view.piece(found.ids[i]), float(found.before[i]), float(found.probabilities[i]))
        for i in likeliest(found)[:N_KEPT]
    ]


def likeliest(found: Funnel) -> np.ndarray:
    """Indices of the tokens that are left, likeliest first, ``[n_kept]``."""
    return np.argsort(-found.probabilities, kind="stable")


def contenders(view: View, found: Funnel) -> list[Contender]:
    """The tokens with the largest sums and the likeliest ones, the largest sum first."""
    order = np.argsort(-found.sums, kind="stable")  # [n_kept]
    places = np.empty_like(order)
    places[order] = np.arange(1, len(order) + 1)
    shown = {*order[:N_LARGEST].tolist(), *likeliest(found)[:N_LIKELIEST].tolist()}
    # A token whose probability was rounded to 0 has no logarithm, and cannot be drawn.
    indices = [i for i in order.tolist() if i in shown and found.probabilities[i] > 0]
    values = np.array([found.log_probabilities[indices], found.sums[indices]])  # [2, n_shown]
    span = values.max() - values.min()
    units = UNITS * (values - values.min()) / (span or 1)  # [2, n_shown]
    return [
        Contender(
            view.piece(found.ids[i]),
            int(places[i]),
            float(found.probabilities[i]),
            float(found.log_probabilities[i]),
            float(found.noise[i]),
            float(found.sums[i]),
            round(float(start), 1),
            round(float(end), 1),
        )
        for i, start, end in zip(indices, *units, strict=True)
    ]


def source_of(*functions: object) -> str:
    """The source of functions that are not recorded, without their docstrings."""
    parts = []
    for function in functions:
        source = inspect.getsource(function)  # type: ignore[arg-type]
        parts.append(source.replace(f'    """{function.__doc__}"""\n', ""))
    return "\n\n".join(parts)


def cuts_glance(view: View) -> Glance:
    found = funnel_of(view)
    return Glance("ids", (len(found.ids),), f"{len(found.ids):,} tokens are left to draw from")


def cuts(view: View) -> Content:
    found, chosen = funnel_of(view), view.query.sampling
    total = float(found.probabilities.sum(dtype=np.float64))
    code = program(
        view,
        ("gpt2",),
        [
            "from gpt2core.sampling import SamplingParams, distribution",
            "",
            f"logits = gpt2(ids, **params, n_head=n_head)[{view.position}]",
            f"sampling = {chosen!r}",
            "left, probabilities = distribution(logits, sampling)",
            'print(len(left), f"{probabilities.max():.4f}")',
        ],
        None,
    )
    return Content(
        picture={
            "funnel": found,
            "kept": kept_tokens(view, found),
            "n_others": len(found.ids) - N_KEPT,
            "sampling": chosen,
            "source": source_of(sampling.distribution),
        },
        checks=(
            Check(
                f"The {len(found.ids):,} probabilities that are left add up to {total:.6f}.",
                abs(total - 1) < 1e-4,
            ),
        ),
        program=Program(code, f"{len(found.ids)} {float(found.probabilities.max()):.4f}"),
    )


def draw_glance(view: View) -> Glance:
    found = funnel_of(view)
    piece = view.piece(found.token).piece
    return Glance(
        "id", (), f"“{piece}” has the largest sum, {numbers.fixed(found.sums[found.drawn], 4)}"
    )


def draw_content(view: View) -> Content:
    found, chosen = funnel_of(view), view.query.sampling
    drawn = view.piece(found.token)
    largest = float(found.sums.max())
    code = program(
        view,
        ("gpt2",),
        [
            "from gpt2core.sampling import SamplingParams, distribution, draw",
            "",
            f"logits = gpt2(ids, **params, n_head=n_head)[{view.position}]",
            f"sampling = {chosen!r}",
            "left, probabilities = distribution(logits, sampling)",
            f"position = {view.position + 1}  # tokens before the new one",
            "id = draw(left, probabilities, sampling.seed, position)",
            "print(id, repr(model.encoder.decode([id])))",
        ],
        None,
    )
    return Content(
        picture={
            "sampling": chosen,
            "contenders": contenders(view, found),
            "n_left": len(found.ids),
            "drawn": drawn,
            "back": look_back(view, found.token),
            "is_last": view.position == view.recording.n_tokens - 1,
            "source": source_of(sampling.draw, sampling.gumbel_noise, sampling.uniform_numbers),
        },
        checks=(
            Check(
                f"Of the {len(found.ids):,} sums, {numbers.fixed(largest, 4)} is the largest: "
                f"that of “{drawn.piece}”.",
                float(found.sums[found.drawn]) == largest,
            ),
        ),
        program=Program(code, f"{found.token} {view.model.encoder.decode([found.token])!r}"),
    )


LOGITS = Step(
    16,
    "logits",
    "Logits: a score for every token",
    "The normed vector is multiplied with every row of wte: the better the two agree, the higher "
    "that token’s score.",
    "The matrix that gave each token its first vector also reads the answer. So the model’s work, "
    "seen from far away, is turning the vector of this token into that of the next.",
    logits_glance,
    logits,
    marks=("unembed.return",),
    related=("instruments.attribution_page",),
    chooses_layer=False,
    chooses_head=False,
)
CUTS = Step(
    17,
    "cuts",
    "Temperature, top-k, top-p",
    "The scores are divided by the temperature and become probabilities; then the unlikely tokens "
    "are cut off.",
    "A temperature under 1 makes the likely likelier. Top-k and top-p cut the long tail: tens of "
    "thousands of tokens are nearly impossible one by one, but together they would be drawn often.",
    cuts_glance,
    cuts,
    chooses_layer=False,
    chooses_head=False,
)
DRAW = Step(
    18,
    "draw",
    "Draw, and decode",
    "Each token that is left gets a random number, its noise. The token with the largest sum of "
    "log-probability and noise is drawn, and its bytes go to the end of the text.",
    "This is the only chance in all of it, and it is repeatable: the noise is computed from the "
    "seed, the place in the text and the token’s id. Then the text, one token longer, begins "
    "again at step 4.",
    draw_glance,
    draw_content,
    related=("instruments.sampling_page",),
    chooses_layer=False,
    chooses_head=False,
)
