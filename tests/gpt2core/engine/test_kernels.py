"""The compiled kernels give what the plain functions define, in float32 and in int8."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import gpt2core.engine.engine
from gpt2core.engine import compiling
from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import INT8_MAX, WIDTH, PackedWeights, n_blocks, pack, packed_shapes
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


def logits_of(weights, hparams, ids, n_threads=1):
    """Logits after a prompt read in two calls and after one more token."""
    engine = Engine(weights, hparams, 2, n_threads=n_threads)
    slot, half = engine.open(), len(ids) // 2
    engine.prefill(slot, ids[:half], more_follow=True)
    return np.stack([engine.prefill(slot, ids[half:-1]), engine.step([slot], ids[-1:])[0]])


# Kernels and plain functions


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_kernels_give_what_the_plain_functions_give(any_small, precision, monkeypatch):
    monkeypatch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
    weights = pack(any_small.params(), any_small.hparams, precision)
    compiled = logits_of(weights, any_small.hparams, any_small.ids(), n_threads=2)
    monkeypatch.setattr(compiling, "kernels", lambda: None)
    plain = logits_of(weights, any_small.hparams, any_small.ids())
    assert np.abs(compiled - plain).max() <= 1e-5 * max(1.0, float(np.abs(plain).max()))


def test_plain_functions_give_the_readable_models_logits(any_small, monkeypatch):
    monkeypatch.setattr(compiling, "kernels", lambda: None)
    params, hparams, ids = any_small.params(), any_small.hparams, any_small.ids()
    expected = gpt2(ids, **params, n_head=hparams.n_head)[-2:]
    assert np.abs(logits_of(params, hparams, ids) - expected).max() <= TOLERANCE


# Exponentials


def test_the_kernels_exponential_is_as_exact_as_the_librarys():
    kernels = compiling.kernels()
    if kernels is None:
        pytest.skip("Numba is not installed")
    x = np.linspace(-87, 5, 4001, dtype=np.float32)
    found = np.array([kernels.exp(v) for v in x], np.float32)
    expected = np.exp(x.astype(np.float64))
    assert (np.abs(found - expected) / expected).max() < 3e-7


# int8


def unpacked(weights: PackedWeights, name: str, n_out: int) -> np.ndarray:
    """A packed matrix of the first layer, or the vocabulary, as ``[n_in, n_out]`` float32."""
    w, scale = getattr(weights, f"{name}_w"), getattr(weights, f"{name}_s")
    if name != "vocab":
        w, scale = w[0], scale[0]
    columns = np.moveaxis(w, 0, 1).reshape(w.shape[1], -1).astype(np.float32) * scale[0]
    assert not columns[:, n_out:].any()
    return columns[:, :n_out]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_packed_matrices_are_the_checkpoints_to_half_a_step(small, precision):
    params, hparams = small.params(), small.hparams
    weights = pack(params, hparams, precision)
    for name, shape in packed_shapes(hparams).items():
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
        error = np.abs(unpacked(weights, name, w.shape[1]) - w)
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
from gpt2core.engine import compiling
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


def test_importing_the_package_loads_no_numba():
    assert run_python("import sys, gpt2core; print('numba' in sys.modules)").strip() == "False"


def test_numba_is_installed_where_the_suite_runs():
    assert importlib.util.find_spec("numba"), "without it these tests compare nothing"
