"""The compiled kernels give what the plain functions define, in float32 and in int8."""

import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import gpt2core.engine.engine
from gpt2core.engine import compiling, plain
from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import (
    INT8_MAX,
    WIDTH,
    PackedWeights,
    blocks,
    column_scales,
    n_blocks,
    pack,
    packed_tensors,
    padded,
)
from gpt2core.hparams import HParams
from gpt2core.model import gpt2
from tests.helpers.paths import ROOT
from tests.helpers.small_models import LONG, SMALL_MODELS, TOLERANCE, SmallModel

# Queries and keys of more than one block of columns.
WIDE_HEAD = SmallModel(
    HParams(n_vocab=40, n_ctx=70, n_embd=80, n_head=1, n_layer=2),
    seed=6, embedding=0.14, weight=0.14, bias=0.1, gain=0.3,
)  # fmt: skip
MODELS = {**SMALL_MODELS, "long": LONG, "wide_head": WIDE_HEAD}


@pytest.fixture(params=MODELS)
def any_small(request):
    return MODELS[request.param]


def compiled(name):
    """A module of compiled functions, imported late: the folder that keeps them is chosen first."""
    assert compiling.kernels(), "the kernels are not compiled"
    return importlib.import_module(f"gpt2core.engine.{name}")


def logits_of(weights, hparams, ids, n_threads=1):
    """Logits after a prompt read in two calls and after one more token."""
    engine = Engine(weights, hparams, 2, n_threads=n_threads)
    slot, half = engine.open(), len(ids) // 2
    engine.prefill(slot, ids[:half], more_follow=True)
    return np.stack([engine.prefill(slot, ids[half:-1]), engine.step([slot], ids[-1:])[0]])


# Kernels and plain functions


# Of the largest logit. With int8 weights, an activation at the border of two of the whole numbers
# to which it is rounded is sometimes rounded the other way.
TWINS = {"float32": 1e-5, "int8": 2e-4}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_kernels_give_what_the_plain_functions_give(any_small, precision, monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    weights = pack(any_small.params(), any_small.hparams, precision)
    compiled = logits_of(weights, any_small.hparams, any_small.ids(), n_threads=2)
    monkeypatch.setattr(compiling, "kernels", lambda: None)
    plain = logits_of(weights, any_small.hparams, any_small.ids())
    assert np.abs(compiled - plain).max() <= TWINS[precision] * max(1.0, np.abs(plain).max())


def test_plain_functions_give_the_readable_models_logits(any_small, monkeypatch):
    monkeypatch.setattr(compiling, "kernels", lambda: None)
    params, hparams, ids = any_small.params(), any_small.hparams, any_small.ids()
    expected = gpt2(ids, **params, n_head=hparams.n_head)[-2:]
    assert np.abs(logits_of(params, hparams, ids) - expected).max() <= TOLERANCE


# Phases


def test_each_unit_of_a_phase_is_in_one_part_for_any_number_of_threads():
    numba, phases = importlib.import_module("numba"), compiled("phases")

    @numba.njit
    def parts(buffers, n, n_threads):
        return [part for part in phases.shared(buffers, 0, n, n_threads)]

    for n in (1, 2, 3, 12, 36, 100, 786):
        for n_threads in (1, 2, 3, 16):
            buffers = plain.make_buffers(WIDE_HEAD.hparams, 1, 1)
            # One thread takes what so many would share.
            units = [unit for part in parts(buffers, n, n_threads) for unit in range(*part)]
            assert units == list(range(n))


# Products and exponentials


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(("n_rows", "n_in", "n_out"), [(1, 768, 70), (5, 3001, 64), (8, 1, 130)])
def test_a_product_is_that_of_the_plain_function(precision, n_rows, n_in, n_out):
    products = compiled("products")
    phases = compiled("phases")
    rng = np.random.default_rng(n_in)
    x = rng.normal(0, 3, (n_rows, n_in)).astype(np.float32)
    x[-1, 0] = 200  # as large beside the others as in GPT-2
    matrix = rng.normal(0, 0.1, (n_in, n_out)).astype(np.float32)
    scale = column_scales(matrix, precision)
    w = np.ascontiguousarray(list(blocks(matrix, scale, precision)))
    w.flags.writeable = False
    scale_bias = np.stack([padded(scale), padded(rng.normal(size=n_out).astype(np.float32))])
    whole = np.zeros((n_rows, n_in + n_in % 2), np.int16)
    scales = np.ones(n_rows, np.float32)
    given = products.rounded(x, whole, scales) if precision == "int8" else x
    out = np.empty((n_rows, len(w) * WIDTH), np.float32)
    products.product(given, scales, w, scale_bias, (0, phases.count_units(len(w), len(x))), out)
    expected = plain.product(x, w, scale_bias)
    assert np.abs(out - expected).max() <= 2e-6 * np.abs(expected).max()
    # Both are the product itself, but for what was rounded: half a step of either factor.
    exact = x.astype(np.float64) @ matrix + scale_bias[1, :n_out]
    error = np.abs(out[:, :n_out] - exact).max()
    assert error <= (3e-2 if precision == "int8" else 3e-6) * np.abs(exact).max()


def test_int8_sums_of_the_largest_numbers_are_exact():
    products = compiled("products")
    # Every weight is -127 and every activation 32,767 or its negative: the largest sums there are.
    n_in = 6400
    x = np.full((4, n_in), 5, np.float32)
    x[1:] *= -1
    w = np.full((1, n_in // 2, WIDTH, 2), -INT8_MAX, np.int8)
    w.flags.writeable = False
    scale_bias = np.stack([np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)])
    scales, out = np.ones(4, np.float32), np.empty((4, WIDTH), np.float32)
    given = products.rounded(x, np.zeros((4, n_in), np.int16), scales)
    products.product(given, scales, w, scale_bias, (0, 1), out)
    expected = n_in * 5 * INT8_MAX
    np.testing.assert_allclose(out[0], -expected, rtol=1e-6)
    np.testing.assert_allclose(out[1:], expected, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_what_is_no_number_stays_none_in_int8(value, is_compiled):
    x = np.ones((2, 70), np.float32)
    x[1, 66] = value
    scales = np.ones(2, np.float32)
    if is_compiled:
        compiled("products").rounded(x, np.zeros((2, 70), np.int16), scales)
    else:
        with np.errstate(invalid="ignore"):
            scales = plain.rounded(x)[1][:, 0]
    assert np.isfinite(scales[0]) and not np.isfinite(scales[1])


def test_rows_of_zeros_and_of_the_smallest_numbers_are_rounded_to_zero():
    products = compiled("products")
    x = np.array([[0, 0], [1e-40, -1e-38], [1e-20, -2e-20]], np.float32)
    whole, scales = np.ones((3, 2), np.int16), np.ones(3, np.float32)
    products.rounded(x, whole, scales)
    expected, expected_scales = plain.rounded(x)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(scales, expected_scales[:, 0])
    np.testing.assert_array_equal(whole[:2], 0)
    np.testing.assert_array_equal(np.abs(whole[2]), [16384, 32767])


def test_the_kernels_exponential_is_as_exact_as_the_librarys():
    elementwise = compiled("elementwise")
    x = np.linspace(-87, 5, 4001, dtype=np.float32)
    found = np.array([elementwise.exp(v) for v in x], np.float32)
    expected = np.exp(x.astype(np.float64))
    assert (np.abs(found - expected) / expected).max() < 3e-7


# int8


def unpacked(weights: PackedWeights, name: str, n_out: int) -> np.ndarray:
    """A packed matrix of the first layer, or the vocabulary, as ``[n_in or one more, n_out]``."""
    w, scale = getattr(weights, f"{name}_w"), getattr(weights, f"{name}_s")
    if name != "vocab":
        w, scale = w[0], scale[0]
    # [n_blocks, n_steps, WIDTH, n_together] -> [n_in, n_columns]
    columns = w.transpose(1, 3, 0, 2).reshape(w.shape[1] * w.shape[3], -1) * scale[0]
    assert not columns[:, n_out:].any()
    return columns[:, :n_out]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_packed_matrices_are_the_checkpoints_to_half_a_step(small, precision):
    params, hparams = small.params(), small.hparams
    weights = pack(params, hparams, precision)
    for name, (_, shape) in packed_tensors(hparams, precision).items():
        array = getattr(weights, name)
        assert array.shape == shape and not array.flags.writeable
        assert array.dtype == (np.int8 if precision == "int8" and "_w" in name else np.float32)
    block = params["blocks"][0]
    for name, w in [
        ("vocab", params["wte"].T),
        ("qkv", block["attn"]["c_attn"]["w"]),
        ("out", block["mlp"]["c_proj"]["w"]),
    ]:
        step = np.abs(w).max(axis=0) / INT8_MAX  # [n_out]
        error = np.abs(unpacked(weights, name, w.shape[1])[: len(w)] - w)
        assert (error <= (0.5001 * step if precision == "int8" else 0)).all()


def test_a_column_of_zeros_stays_zero_in_int8():
    small = SMALL_MODELS["released_spreads"]
    params = small.params()
    params["wte"][5] = 0
    weights = pack(params, small.hparams, "int8")
    assert not weights.vocab_w[5 // WIDTH, :, 5 % WIDTH].any()
    assert np.isfinite(logits_of(weights, small.hparams, small.ids())).all()
    assert n_blocks(small.hparams.n_vocab) * WIDTH == weights.vocab_s.shape[1]


# Without Numba, and where kernels cannot be kept


def test_kept_kernels_are_named_after_every_module_that_is_compiled():
    folder, found, left = ROOT / "gpt2core" / "engine", set(), {"kernels"}
    while left:
        found.add(name := left.pop())
        source = (folder / f"{name}.py").read_text()
        left |= set(re.findall(r"^from gpt2core\.engine\.(\w+) import", source, re.M)) - found
    assert found == set(compiling.SOURCES)


def run_python(program: str, **environment) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


GENERATE = """
import sys
{before}
from gpt2core import Engine, load_model, stream
from gpt2core.engine import compiling, plain
model = load_model("demo")
print([t.id for t in stream(model.engine(), model.encoder.encode("Once upon"), 8)])
thread = compiling.start()
if thread:
    thread.join()
print(compiling.kernels() is not None, "numba" in sys.modules)
print([t.id for t in stream(model.engine(), model.encoder.encode("Once upon"), 8)])
"""


def test_without_numba_everything_works_in_plain_numpy():
    # None in sys.modules: importing it fails, and it cannot be found.
    without = GENERATE.format(before="sys.modules['numba'] = None")
    first, loaded, again = run_python(without).splitlines()
    assert loaded == "False True"  # the entry is the None
    assert first == again
    off = run_python(GENERATE.format(before=""), GPT2_KERNELS="off").splitlines()
    assert off == [first, "False False", first]


def test_where_the_cache_cannot_be_written_kernels_get_a_temporary_folder(
    tmp_path, caplog, monkeypatch
):
    blocked = tmp_path / "a file"
    blocked.write_text("no folder")
    monkeypatch.setenv("GPT2_KERNEL_CACHE", str(blocked))
    folder = compiling.cache_folder()
    assert folder.is_dir() and tmp_path not in folder.parents
    assert "cannot be kept" in caplog.text


END_WHILE_COMPILING = """
import os, subprocess
from gpt2core.engine import compiling
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if compiling.KERNELS in str(arguments):
            os._exit(0)
subprocess.Popen = Popen
compiling.start().join()
"""


def test_compiling_does_not_hold_back_who_reads_the_output_of_an_ended_process(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", END_WHILE_COMPILING],
        cwd=ROOT, env={**os.environ, "GPT2_KERNEL_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.read() == b""
        assert not compiling.is_compiled(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)  # what still compiles


def test_why_compiling_failed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "KERNELS", "gpt2core.engine.none")
    with pytest.raises(RuntimeError, match=r"No module named 'gpt2core\.engine\.none'"):
        compiling.compile_into(tmp_path)


def test_importing_the_package_loads_no_numba():
    assert run_python("import sys, gpt2core; print('numba' in sys.modules)").strip() == "False"


def test_numba_is_installed_where_the_suite_runs():
    assert importlib.util.find_spec("numba"), "without it these tests compare nothing"
