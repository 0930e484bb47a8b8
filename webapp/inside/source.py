"""``model.py`` as the pages print it: its lines, their addresses, the values they made.

A line's address is the name that it binds, ``attention.scores``, so that links outlive an
edit of the file; ``mha.x[1]`` is the second time that ``mha`` binds ``x``. The text is that
of the module that runs.

Invariant: values stand beside the line that the recorder saw make them.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gpt2core.inside.recorder import RESULT, SOURCE, Value, numbered
from webapp.inside import numbers

MAX_SHOWN = 4  # numbers of a row beside its line
# Axes that the end-of-line comments leave open, because the function takes any shape.
OPEN_AXES = {
    "gelu": ("n_seq", "4*n_embd"),
    "softmax": ("n_head", "n_seq", "n_seq"),
}


@dataclass(frozen=True)
class Line:
    """A line of the file; ``anchors`` are the names that it binds, as addresses."""

    number: int
    code: str
    comment: str
    anchors: tuple[str, ...]


@dataclass(frozen=True)
class ShownValue:
    """What a line made: the array's name and shape, and the row of the chosen token."""

    name: str
    shape: str
    row: str
    numbers: tuple[str, ...]
    n_more: int


@dataclass(frozen=True)
class ShownLine:
    """A line of a listing. ``is_marked`` lines are what the step is about.

    ``after_gap``: lines between this one and the one before are not shown.
    """

    line: Line
    values: tuple[ShownValue, ...]
    is_marked: bool
    after_gap: bool


@dataclass(frozen=True)
class Listing:
    """One function as it ran in one call: ``path`` names the call as the recorder does."""

    function: str
    path: str
    lines: tuple[ShownLine, ...]


@dataclass(frozen=True)
class Choice:
    """Which row of an array is printed: the chosen token's, in the chosen head.

    Of a line that ran once a layer, the value of the chosen layer.
    """

    position: int
    head: int
    layer: int


@lru_cache(maxsize=1)
def file_lines() -> tuple[Line, ...]:
    """All lines of ``model.py``."""
    text = Path(SOURCE).read_text(encoding="utf-8")
    anchors = anchors_by_line(ast.parse(text))
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        code, comment = split_comment(line)
        lines.append(Line(number, code, comment, tuple(anchors.get(number, ()))))
    return tuple(lines)


def split_comment(line: str) -> tuple[str, str]:
    """A line's code and its comment; no string of the file holds a ``#`` after a space."""
    found = re.search(r"(^|\s)#", line)
    return (line[: found.start()], line[found.start() :]) if found else (line, "")


def anchors_by_line(tree: ast.Module) -> dict[int, list[str]]:
    """Line number -> addresses: ``attention`` at its ``def``, then each name that it binds."""
    anchors: dict[int, list[str]] = {}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        anchors.setdefault(function.lineno, []).append(function.name)
        counts: dict[str, int] = {}
        for line, name in bindings(function):
            index = counts[name] = counts.get(name, -1) + 1
            anchors.setdefault(line, []).append(f"{function.name}.{numbered(name, index)}")
    return anchors


def bindings(function: ast.FunctionDef) -> list[tuple[int, str]]:
    """(last line, name) of each assignment and return of a function, in order."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Return):
            found.append((node.lineno, RESULT))
    return sorted(found, key=lambda binding: binding[0])


@lru_cache(maxsize=1)
def functions() -> dict[str, range]:
    """Function -> the numbers of its lines."""
    tree = ast.parse(Path(SOURCE).read_text(encoding="utf-8"))
    return {
        node.name: range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


@lru_cache(maxsize=1)
def line_numbers() -> dict[str, int]:
    """Address -> line number."""
    return {anchor: line.number for line in file_lines() for anchor in line.anchors}


def line_of(anchor: str) -> int:
    """The number of the line at an address. Raises KeyError."""
    return line_numbers()[anchor]


def listing(
    function: str,
    path: str,
    marks: Sequence[str],
    values: Iterable[Value],
    choice: Choice,
    since: str | None = None,
    until: str | None = None,
) -> Listing:
    """``function`` with the values of the call at ``path``.

    Of its lines are shown the first, those that made a value and those of ``marks``, names
    that the function binds, with the comments above them; after the first none before the
    line of ``since`` and none after that of ``until``.
    """
    marked = {line_numbers()[f"{function}.{name}"] for name in marks}
    made: dict[int, list[Value]] = {}
    for value in values:
        if value.call.path == path:
            made.setdefault(value.line, []).append(value)
    first, last = functions()[function][0], functions()[function][-1]
    begin = line_numbers()[f"{function}.{since}"] if since else first
    end = line_numbers()[f"{function}.{until}"] if until else last
    shown_numbers = {first} | {n for n in {*marked, *made} if begin <= n <= end}
    shown_numbers |= {n for line in shown_numbers for n in comment_above(line)}
    shown: list[ShownLine] = []
    for number in sorted(shown_numbers):
        found = tuple(shown_value(value, choice) for value in of_layer(made, number, choice))
        gap = bool(shown) and shown[-1].line.number != number - 1
        shown.append(ShownLine(file_lines()[number - 1], found, number in marked, gap))
    return Listing(function, path, tuple(shown))


def comment_above(number: int) -> list[int]:
    """Numbers of the comment lines right above a line."""
    found: list[int] = []
    while is_comment(file_lines()[number - 2 - len(found)]):
        found.append(number - 1 - len(found))
    return found


def is_comment(line: Line) -> bool:
    return bool(line.comment) and not line.code.strip()


def of_layer(made: dict[int, list[Value]], line: int, choice: Choice) -> list[Value]:
    """The values of a line; of one that binds the same name once a layer, the chosen layer's."""
    values = made.get(line, [])
    repeats = len(values) > 1 and len({value.name for value in values}) == 1
    return [values[choice.layer]] if repeats else values


def shown_value(value: Value, choice: Choice) -> ShownValue:
    """A value's name and shape, and the first numbers of the chosen row."""
    index = chosen_index(value, choice)
    row = np.atleast_1d(value.array[index])
    shown = [numbers.number(number) for number in row[:MAX_SHOWN]]
    index_text = ", ".join(":" if isinstance(i, slice) else str(i) for i in index)
    return ShownValue(
        value.name,
        numbers.shape(value.array.shape),
        f"[{index_text}]",
        tuple(shown),
        row.size - len(shown),
    )


def chosen_index(value: Value, choice: Choice) -> tuple[int | slice, ...]:
    """The index that leaves the chosen token's row, one-dimensional or a single number."""
    index: list[int | slice] = []
    has_token = False
    for axis in axes_of(value):
        if axis == "n_head":
            index.append(choice.head)
        elif axis == "n_seq" and not has_token:
            index.append(choice.position)
            has_token = True
        elif axis == "3":  # queries, keys and values side by side
            index.append(0)
        else:
            index.append(slice(None))
    return tuple(index)


def axes_of(value: Value) -> Sequence[str]:
    """Names of an array's axes, from the comment at the end of the line that made it."""
    if value.call.function in OPEN_AXES:
        return OPEN_AXES[value.call.function]
    comment = file_lines()[value.line - 1].comment
    bracket = re.findall(r"\[([^\]]*)\]", comment)[-1]
    return [axis.strip() for axis in bracket.split(",")]
