"""Step 4: ids become vectors."""

import numpy as np

from webapp.inside import numbers
from webapp.inside.source import listing
from webapp.inside.steps.common import (
    N_PRINTED,
    choice_of,
    largest_difference,
    print_row,
    printed,
    program,
    vectors,
)
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View


def glance(view: View) -> Glance:
    x = view.recording.residual[0]
    length = float(np.linalg.norm(x[view.position]))
    return Glance("x", x.shape, f"token {view.chosen.at} is a vector of length {length:.2f}")


def content(view: View) -> Content:
    p, params = view.position, view.model.params
    token, place = params["wte"][view.chosen.id], params["wpe"][p]
    x = view.recording.residual[0][p]
    off = largest_difference(token + place, x)
    return Content(
        listings=(
            listing(
                "gpt2", "gpt2", ["inputs", "x"], view.recording.trace, choice_of(view), until="x"
            ),
        ),
        picture={
            "vectors": vectors(
                (f"wte[{view.chosen.id}]", "gpt2.x", token),
                (f"wpe[{p}]", "gpt2.x", place),
                (f"x[{p}]", "gpt2.x", x),
            ),
            "signs": ("", "+", "="),
        },
        checks=(
            Check(
                f"wte[{view.chosen.id}] + wpe[{p}] − x[{p}] = {numbers.number(off, 2)} at most.",
                off == 0,
            ),
        ),
        program=Program(
            program(view, (), [print_row(f"x[{p}, :{N_PRINTED}]")], upto=0),
            printed(x[:N_PRINTED]),
        ),
    )


EMBEDDING = Step(
    4,
    "embedding",
    "Embed: token + position",
    "Each id picks a row of the matrix wte; each place in the text picks a row of wpe; the two "
    "rows are added.",
    "A network computes with vectors, not with numbers on a list: tokens that are used alike "
    "have rows that point the same way, and without the position a text would be a bag of tokens. "
    "The sum is the beginning of the token’s residual stream, to which every layer will add.",
    glance,
    content,
    marks=("gpt2.x",),
    chooses_layer=False,
    chooses_head=False,
    group="embedding",
)
