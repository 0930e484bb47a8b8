"""Records ``model.py`` as it runs: every array that a line makes, with the line's number.

The base of the inside views. A trace function (``sys.settrace``) observes the frames whose
code is in ``model.py``. Before each line it compares the frame's local variables with those
before the previous line: an array that is new was made by the previous line. A returned
array is recorded under the name ``return``. Variable names come from the source and line
numbers from the interpreter, so the recorded code is the code that a page can print.

Invariants: ``model.py`` contains nothing for the recorder. A recorded call returns the same
result as an unrecorded one, bit for bit. Arrays are not copied; no function of ``model.py``
changes an array. The trace function is set for one thread and one call; the previous one (a
debugger's, coverage's) is restored, also after an exception.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from gpt2core import model

SOURCE = model.gpt2.__code__.co_filename  # the file whose frames are recorded
RESULT = "return"  # name of a returned array; a keyword, so no variable has this name


@dataclass(frozen=True)
class Call:
    """One call of a function of ``model.py``.

    ``caller`` is the calling call, None for the recorded function itself. ``index`` counts
    the caller's calls of this function, from 0.
    """

    function: str
    index: int = 0
    caller: "Call | None" = None

    @property
    def layer(self) -> int | None:
        """Index of the block that this call is or belongs to; None outside the blocks."""
        if self.function == "transformer_block":
            return self.index
        return self.caller.layer if self.caller else None

    @property
    def path(self) -> str:
        """Name of the call: ``gpt2``, ``gpt2.unembed``, ``blocks[3].layer_norm[1]``.

        ``[1]`` is the caller's second call of that function. ``[0]`` is omitted, except for
        blocks.
        """
        if self.function == "transformer_block":
            return f"blocks[{self.index}]"
        name = numbered(self.function, self.index)
        return f"{self.caller.path}.{name}" if self.caller else name


@dataclass(frozen=True, eq=False)
class Value:
    """An array and the line of ``model.py`` that made it.

    ``line`` counts from 1. ``name`` is the variable that the line assigned, or ``RESULT``.
    ``index`` counts the arrays that this variable held in the call, from 0.
    """

    call: Call
    line: int
    name: str
    index: int
    array: np.ndarray

    @property
    def path(self) -> str:
        """Unique name in a trace: ``blocks[3].mha.attention.scores``, ``gpt2.x[2]``."""
        return f"{self.call.path}.{numbered(self.name, self.index)}"


def numbered(name: str, index: int) -> str:
    """``name``, ``name[1]``, ``name[2]`` …"""
    return f"{name}[{index}]" if index else name


class Trace:
    """The values of one recorded call, in the order of execution."""

    def __init__(self, values: list[Value]):
        self.values = tuple(values)

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def find(self, function: str, name: str) -> list[Value]:
        """All values of variable ``name`` in calls of ``function``, in order, possibly none."""
        return [v for v in self.values if v.call.function == function and v.name == name]

    def array(self, path: str) -> np.ndarray:
        """The array at ``path``. Raises KeyError if there is none."""
        for value in self.values:
            if value.path == path:
                return value.array
        raise KeyError(path)

    def by_line(self) -> dict[int, list[Value]]:
        """Line number -> the values that the line made, in order."""
        lines: dict[int, list[Value]] = {}
        for value in self.values:
            lines.setdefault(value.line, []).append(value)
        return lines


def record(
    function: Callable[..., Any],
    *args: Any,
    keep: Callable[[Value], bool] | None = None,
    root: Call | None = None,
    **kwargs: Any,
) -> tuple[Any, Trace]:
    """Call a function of ``model.py`` and record it. Returns its result and the trace.

    ``keep`` is called with each value when it is made. The trace holds a value only if
    ``keep`` returns True (default: all), so the memory of the others is freed as usual.
    ``root`` names the call in the trace (default: the function's name).
    """
    recorder = _Recorder(keep or (lambda value: True), root or Call(function.__name__))
    before = sys.gettrace()
    sys.settrace(recorder.on_call)
    try:
        result = function(*args, **kwargs)
    finally:
        sys.settrace(before)
    return result, Trace(recorder.values)


class _Recorder:
    """State of one recording; ``on_call`` is the global trace function."""

    def __init__(self, keep: Callable[[Value], bool], root: Call):
        self.values: list[Value] = []
        self.stack: list[_CallTracer] = []  # active calls in model.py, outermost first
        self._keep, self._root = keep, root

    def on_call(self, frame: FrameType, event: str, arg: object) -> "_CallTracer | None":
        """Called by the interpreter at each function call of the thread."""
        if frame.f_code.co_filename != SOURCE:
            return None  # not traced line by line
        function = frame.f_code.co_name
        if self.stack:
            caller = self.stack[-1]
            call = Call(function, caller.next_index(f"{function}()"), caller.call)
        else:
            call = self._root
        self.stack.append(_CallTracer(self, call, frame))
        return self.stack[-1]

    def add(self, value: Value) -> None:
        if self._keep(value):
            self.values.append(value)


class _CallTracer:
    """The local trace function of one call, called before each line and at the return."""

    def __init__(self, recorder: _Recorder, call: Call, frame: FrameType):
        self.call = call
        self._recorder = recorder
        self._locals = dict(frame.f_locals)  # the arguments, which no line of this call made
        self._line = frame.f_lineno
        self._counts: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: object) -> "_CallTracer":
        if event == "line":
            self._collect(frame.f_locals)
        elif event == "return":
            # When an exception leaves the call, ``arg`` is None.
            if isinstance(arg, np.ndarray):
                self._add(RESULT, arg)
            self._recorder.stack.pop()
        self._line = frame.f_lineno
        return self

    def next_index(self, name: str) -> int:
        """Number of earlier calls of this method with ``name``."""
        self._counts[name] += 1
        return self._counts[name] - 1

    def _collect(self, now: dict[str, Any]) -> None:
        """Record the variables that the previous line set to a new array."""
        for name, value in now.items():
            if isinstance(value, np.ndarray) and value is not self._locals.get(name):
                self._add(name, value)
        # The references keep the old objects alive, so ``is not`` compares with live objects.
        self._locals = dict(now)

    def _add(self, name: str, array: np.ndarray) -> None:
        index = self.next_index(name)
        self._recorder.add(Value(self.call, self._line, name, index, array))
