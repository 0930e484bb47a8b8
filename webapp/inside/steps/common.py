"""What several steps use: listings of the chosen call, vectors as pictures, programs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from webapp.drawing import Barcode, barcode
from webapp.inside.source import Choice, Listing, listing
from webapp.inside.view import View

N_LARGEST = 5  # numbers of a vector that are named
N_PRINTED = 4  # numbers that a program prints
ROUNDING = 2e-5  # of float32, after sums of some thousand products


@dataclass(frozen=True)
class Vector:
    """A vector as a barcode with its figures; ``anchor`` names the line that made it."""

    name: str
    anchor: str
    barcode: Barcode
    largest: tuple[tuple[int, float], ...]
    minimum: float
    maximum: float
    length: float
    size: int


def vector(name: str, anchor: str, values: np.ndarray, scale: float | None = None) -> Vector:
    """``values [n]`` as a picture; ``scale`` is shared by vectors that are compared."""
    order = np.argsort(-np.abs(values), kind="stable")[:N_LARGEST]
    return Vector(
        name,
        anchor,
        barcode(values, scale),
        tuple((int(i), float(values[i])) for i in order),
        float(values.min()),
        float(values.max()),
        float(np.linalg.norm(values.astype(np.float64))),
        len(values),
    )


def vectors(*named: tuple[str, str, np.ndarray]) -> list[Vector]:
    """Vectors on one scale, so that their shades can be compared: (name, anchor, values)."""
    scale = max(float(np.abs(values).max()) for _, _, values in named)
    return [vector(name, anchor, values, scale) for name, anchor, values in named]


def choice_of(view: View) -> Choice:
    return Choice(view.position, view.head, view.layer)


def of_block(
    view: View,
    function: str,
    call: str,
    marks: Sequence[str],
    since: str | None = None,
    until: str | None = None,
) -> Listing:
    """``function`` with the values of the call ``call`` in the chosen layer; "" is the block."""
    path = f"blocks[{view.layer}]" + (f".{call}" if call else "")
    return listing(function, path, marks, view.block.trace, choice_of(view), since, until)


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest magnitude of ``one - other``, in float64."""
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def agrees(off: float, values: np.ndarray) -> bool:
    """Whether ``off`` is no more than float32's rounding on numbers as large as ``values``."""
    return off <= ROUNDING * max(1.0, float(np.abs(values).max()))


def printed(values: Sequence[float] | np.ndarray) -> str:
    """Numbers as the programs print them: four places, a space between."""
    return " ".join(f"{float(value):.4f}" for value in values)


def print_row(values: str) -> str:
    """The line of a program that prints the numbers ``values``, an expression."""
    return f'print(*(f"{{value:.4f}}" for value in {values}))'


def program(view: View, imports: Sequence[str], lines: Sequence[str], upto: int | None) -> str:
    """A program that runs the text up to the input of block ``upto`` (None: not at all)."""
    names = sorted({*imports, *(("transformer_block",) if upto else ())})
    code = ["from gpt2core import load_model"]
    code += [f"from gpt2core.model import {', '.join(names)}"] if names else []
    code += [
        "",
        f"model = load_model({view.model.name!r})",
        "params, n_head = model.params, model.hparams.n_head",
        f"ids = {ids_of(view)}",
    ]
    if upto is not None:
        code.append('x = params["wte"][ids] + params["wpe"][: len(ids)]')
    if upto:
        code.append(f'for block in params["blocks"][:{upto}]:')
        code.append("    x = transformer_block(x, **block, n_head=n_head)")
    return "\n".join([*code, *lines, ""])


def encoding(view: View, text: str) -> str:
    """The call that encodes ``text`` as the view's prompt is encoded, as Python."""
    special_tokens = view.query.special_tokens
    option = "" if special_tokens is None else f", special_tokens={special_tokens}"
    return f"encode({text!r}{option})"


def ids_of(view: View) -> str:
    """The text's ids, as Python."""
    query = view.query
    cut = f"model.encoder.{encoding(view, query.prompt)}" if query.prompt else ""
    kept = str(list(query.kept)) if query.kept else ""
    return " + ".join(part for part in (cut, kept) if part)
