"""The recorder sees what model.py computes, all of it and nothing else, and changes nothing."""

import ast
import re
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gpt2core import model
from gpt2core.errors import InputError
from gpt2core.inside.recorder import RESULT, SOURCE, Call, Value, record
from tests.helpers.small_models import SMALL_MODELS

LINES = Path(model.__file__).read_text("utf-8").splitlines()
N_SEQ = 10


def recorded(small, ids=None, **options):
    ids = small.ids()[:N_SEQ] if ids is None else ids
    return record(model.gpt2, ids, **small.params(), n_head=small.hparams.n_head, **options)


# The same result


def test_a_recorded_run_gives_the_same_logits_to_the_last_bit(small):
    ids = small.ids()
    logits, _ = recorded(small, ids)
    plain = model.gpt2(ids, **small.params(), n_head=small.hparams.n_head)
    np.testing.assert_array_equal(logits, plain)


def test_the_last_value_is_the_result(small):
    logits, trace = recorded(small)
    assert trace.values[-1].array is logits
    assert trace.values[-1].path == "gpt2.return"


# Every line, as often as it ran


def statements() -> dict[int, int]:
    """Line -> how many arrays one run of it makes, for each line that binds or returns one."""
    makes = {}
    for node in ast.walk(ast.parse("\n".join(LINES))):
        if isinstance(node, ast.Return):
            makes[node.lineno] = 1
        elif isinstance(node, ast.Assign) and ".shape" not in LINES[node.lineno - 1]:
            [target] = node.targets
            makes[node.lineno] = len(target.elts) if isinstance(target, ast.Tuple) else 1
    functions = [node for node in ast.parse("\n".join(LINES)).body if type(node) is ast.FunctionDef]
    inside = {line for f in functions for line in range(f.lineno, f.end_lineno + 1)}
    return {line: n for line, n in makes.items() if line in inside}


def runs_of_lines(function, *args, **kwargs) -> Counter:
    """How often each line of model.py ran, by a trace function of the test's own."""
    runs = Counter()

    def watch(frame, event, arg):
        if frame.f_code.co_filename == model.__file__:
            runs[frame.f_lineno] += event == "line"
            return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        function(*args, **kwargs)
    finally:
        sys.settrace(before)
    return runs


def test_every_line_that_makes_an_array_is_recorded_as_often_as_it_ran(small):
    _, trace = recorded(small)
    runs = runs_of_lines(
        model.gpt2, small.ids()[:N_SEQ], **small.params(), n_head=small.hparams.n_head
    )
    expected = {line: n * runs[line] for line, n in statements().items() if runs[line]}
    assert Counter(value.line for value in trace) == expected
    assert len(expected) > 25  # the oracle itself sees the file


def test_nothing_from_other_files_is_recorded(small):
    _, trace = recorded(small)
    own = {name for name, value in vars(model).items() if callable(value)}
    assert {value.call.function for value in trace} <= own


def test_each_value_is_on_the_line_that_names_it(small):
    _, trace = recorded(small)
    for value in trace:
        code = LINES[value.line - 1].split("#")[0].strip()
        if value.name == RESULT:
            assert code.startswith("return ")
        else:
            assert value.name in [name.strip() for name in code.split("=")[0].split(",")]


# Shapes


def shape_comment(line: int) -> list[str]:
    """The dimensions at the end of a line's comment: ``["n_seq", "4*n_embd"]``."""
    comment = LINES[line - 1].partition("#")[2]
    groups = re.findall(r"\[([^\]]*)\]", comment)
    assert groups, f"line {line} makes an array, and its comment has no shape"
    return [dimension.strip() for dimension in groups[-1].split(",")]


def fits(shape: tuple, dimensions: list[str], sizes: dict[str, int]) -> bool:
    """Whether ``shape`` is as the comment says; ``...`` and names of no size fit anything."""
    if "..." in dimensions:
        return True
    if len(shape) != len(dimensions):
        return False
    for size, dimension in zip(shape, dimensions, strict=True):
        factors = [int(f) if f.isdigit() else sizes.get(f) for f in dimension.split("*")]
        if None not in factors and size != np.prod(factors):
            return False
    return True


def test_recorded_shapes_are_those_of_the_comments(small):
    h = small.hparams
    sizes = {**h.to_dict(), "n_seq": N_SEQ, "d_head": h.n_embd // h.n_head}
    _, trace = recorded(small)
    wrong = [
        (value.path, value.array.shape, LINES[value.line - 1])
        for value in trace
        if not fits(value.array.shape, shape_comment(value.line), sizes)
    ]
    assert wrong == []


def test_a_shape_that_a_comment_does_not_tell_is_noticed():
    sizes = {"n_seq": 10, "n_embd": 48, "n_head": 4, "d_head": 12}
    assert fits((10, 192), ["n_seq", "4*n_embd"], sizes)
    assert not fits((10, 48), ["n_seq", "4*n_embd"], sizes)
    assert not fits((4, 10), ["n_head", "n_seq", "d_head"], sizes)
    exact = [line for line in statements() if "..." not in shape_comment(line)]
    assert len(exact) > 20


# Names


def test_values_are_named_by_block_call_and_name():
    small = SMALL_MODELS["released_spreads"]
    _, trace = recorded(small)
    paths = [value.path for value in trace]
    assert len(set(paths)) == len(paths)
    assert {
        *("gpt2.inputs", "gpt2.x", "gpt2.x[3]", "gpt2.unembed.layer_norm.variance"),
        *("blocks[0].mha.q", "blocks[2].mha.attention.scores", "blocks[1].layer_norm[1].mean"),
        *("blocks[2].ffn.linear[1].return", "blocks[0].mha.attention.softmax.return"),
    } <= set(paths)


def test_a_value_knows_its_layer():
    small = SMALL_MODELS["released_spreads"]
    _, trace = recorded(small)
    layers = [value.call.layer for value in trace.find("softmax", RESULT)]
    assert layers == [0, 1, 2]
    assert {value.call.layer for value in trace.find("gpt2", "x")} == {None}


def test_values_are_found_by_path_and_by_line():
    _, trace = recorded(SMALL_MODELS["one_head"])
    [q] = trace.find("mha", "q")
    assert trace.array("blocks[0].mha.q") is q.array
    assert q in trace.by_line()[q.line] and len(trace.by_line()[q.line]) == 3  # q, k, v
    assert sum(map(len, trace.by_line().values())) == len(trace)
    with pytest.raises(KeyError):
        trace.array("blocks[0].mha.queries")


def test_a_call_recorded_alone_takes_the_name_it_is_given():
    small = SMALL_MODELS["released_spreads"]
    block, x = small.params()["blocks"][2], np.ones((3, 48), np.float32)
    root = Call("transformer_block", 2)
    _, trace = record(model.transformer_block, x, **block, n_head=4, root=root)
    assert trace.values[0].path == "blocks[2].layer_norm.mean"


# What is not wanted is let go


def test_only_what_is_asked_for_is_kept():
    def scores_only(value: Value) -> bool:
        return value.name == "scores"

    small = SMALL_MODELS["released_spreads"]
    logits, trace = recorded(small, keep=scores_only)
    _, everything = recorded(small)
    assert [value.path for value in trace] == [
        f"blocks[{layer}].mha.attention.scores" for layer in range(3)
    ]
    for value in trace:
        np.testing.assert_array_equal(value.array, everything.array(value.path))


def test_memory_of_what_is_not_kept_is_free_during_the_pass():
    """When block 2 begins, no array of block 0 is alive but through what was kept."""
    small, seen = SMALL_MODELS["released_spreads"], []

    def keep(value: Value) -> bool:
        if value.path == "blocks[0].mha.attention.scores":
            seen.append(weakref.ref(value.array))
        if value.path == "blocks[2].layer_norm.mean":
            seen.append(seen[0]() is None)
        return False

    recorded(small, keep=keep)
    assert seen[1:] == [True]


# Threads and exceptions


def test_two_threads_record_side_by_side_without_seeing_each_other():
    names = ("released_spreads", "large_weights")
    alone = {name: recorded(SMALL_MODELS[name])[1] for name in names}
    together = {}
    start = threading.Barrier(len(names))

    def run(name):
        start.wait()
        together[name] = [recorded(SMALL_MODELS[name])[1] for _ in range(20)]

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        for trace in together[name]:
            assert [v.path for v in trace] == [v.path for v in alone[name]]
            for value, expected in zip(trace, alone[name], strict=True):
                np.testing.assert_array_equal(value.array, expected.array)


def test_a_thread_that_does_not_record_is_not_traced():
    small = SMALL_MODELS["one_head"]
    tracers = []

    def keep(value):
        thread = threading.Thread(target=lambda: tracers.append(sys.gettrace()))
        thread.start()
        thread.join()
        return True

    recorded(small, keep=keep)
    assert tracers and set(tracers) == {None}


@pytest.fixture
def debugger():
    """A trace function that was there before, as a debugger's is."""

    def trace(frame, event, arg):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    yield trace
    sys.settrace(before)


def test_the_trace_function_of_before_is_set_again(debugger):
    recorded(SMALL_MODELS["one_head"])
    assert sys.gettrace() is debugger


def test_it_is_set_again_after_an_exception(debugger):
    with pytest.raises(InputError):
        recorded(SMALL_MODELS["one_head"], ids=[])
    assert sys.gettrace() is debugger


def test_the_source_is_the_file_that_people_read():
    assert Path(SOURCE).samefile(model.__file__)
