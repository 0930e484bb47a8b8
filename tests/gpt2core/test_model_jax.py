"""The readable model under jax.numpy: the same logits, compiled, batched, differentiated.

``tools/train_demo.py``, ``docs/training.md`` and ``docs/array_libraries.md`` rely on it.
"""

import os
import re

import numpy as np
import pytest

from gpt2core.model import gpt2
from tests.helpers.paths import ROOT
from tests.helpers.small_models import SMALL_MODELS, TOLERANCE

if os.environ.get("CI"):
    import jax  # where the promise is checked for good, a missing JAX is a red test
else:
    jax = pytest.importorskip("jax", reason="JAX is not installed (requirements-dev.txt)")
jnp = jax.numpy


def largest_difference(a, b):
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def test_logits_equal_numpys():
    """As JAX runs it line by line, without compiling."""
    small = SMALL_MODELS["one_head"]
    ids, weights = small.ids(), {**small.params(), "n_head": small.hparams.n_head}
    logits = gpt2(ids, **weights, xp=jnp)
    assert isinstance(logits, jax.Array) and logits.dtype == np.float32
    assert largest_difference(logits, gpt2(ids, **weights)) <= TOLERANCE


def test_a_compiled_batch_is_its_texts_side_by_side(small):
    n_head, ids = small.hparams.n_head, np.array(small.ids())
    batch = np.stack([ids, ids[::-1], np.roll(ids, 1)])  # [3, n_ctx]

    @jax.jit
    def forward(params, batch):
        return jax.vmap(lambda ids: gpt2(ids, **params, n_head=n_head, xp=jnp))(batch)

    for logits, row in zip(forward(small.params(), batch), batch, strict=True):
        alone = gpt2(row, **small.params(), n_head=n_head)
        assert largest_difference(logits, alone) <= TOLERANCE


def mean_cross_entropy(params, ids, n_head):
    logits = gpt2(ids[:-1], **params, n_head=n_head, xp=jnp)  # -> [n_seq, n_vocab]
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.mean(logprobs[jnp.arange(len(ids) - 1), ids[1:]])


@pytest.mark.parametrize("name", ["large_weights", "one_head"])
def test_the_gradient_is_the_slope(name):
    """Along a random direction in each tensor, in float64: (f(x + h) - f(x - h)) / 2h."""
    small = SMALL_MODELS[name]
    n_head, ids = small.hparams.n_head, np.array(small.ids())
    random = np.random.RandomState(0)
    with jax.enable_x64(True):
        weights, tree = jax.tree.flatten(small.params())
        weights = [w.astype(np.float64) for w in weights]
        loss_and_gradient = jax.jit(
            jax.value_and_grad(lambda w: mean_cross_entropy(tree.unflatten(w), ids, n_head))
        )
        _, gradient = loss_and_gradient(weights)
        for i, slope in enumerate(gradient):
            assert slope.dtype == np.float64 and slope.shape == weights[i].shape
            direction = random.standard_normal(weights[i].shape)
            h = 1e-5 * direction / np.linalg.norm(direction)
            ahead, _ = loss_and_gradient([*weights[:i], weights[i] + h, *weights[i + 1 :]])
            behind, _ = loss_and_gradient([*weights[:i], weights[i] - h, *weights[i + 1 :]])
            expected = 2 * float(np.sum(np.asarray(slope) * h))
            assert float(ahead - behind) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_a_few_steps_against_the_gradient_learn_a_text():
    small = SMALL_MODELS["one_head"]
    ids = np.array(small.ids())
    gradient = jax.jit(
        jax.value_and_grad(lambda params: mean_cross_entropy(params, ids, small.hparams.n_head))
    )
    params, losses = small.params(), []
    for _ in range(30):
        loss, slope = gradient(params)
        losses.append(float(loss))
        params = jax.tree.map(lambda w, s: w - 0.3 * s, params, slope)
    assert losses[-1] < 0.5 * losses[0]


def python_blocks(page):
    """The Python code of a page of the docs, block by block."""
    text = ROOT.joinpath("docs", page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_loop_of_the_docs_learns_its_sentence(capsys):
    """Every Python block of docs/training.md runs, and the first does what the text says."""
    names: dict = {}
    for block in python_blocks("training.md"):
        exec(block, names)
    *steps, said = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[1]) for line in steps]
    assert losses[0] > 3 and losses[-1] < 0.5
    assert said == names["model"].encoder.decode(names["ids"][3:13])
    assert names["logits"].shape == (2, len(names["ids"]), names["model"].hparams.n_vocab)


@pytest.mark.parametrize("library, array", [("jax.numpy", jax.Array), ("numpy", np.ndarray)])
def test_the_lines_of_the_docs_run_under_any_library(library, array, capsys):
    """docs/array_libraries.md: only the first import changes, and the next token is NumPy's."""
    [lines] = python_blocks("array_libraries.md")
    assert lines.startswith("import jax.numpy as xp")
    names: dict = {}
    exec(lines.replace("jax.numpy", library, 1), names)
    model, ids, logits = names["model"], names["ids"], names["logits"]
    expected = gpt2(ids, **model.params, n_head=model.hparams.n_head)
    assert isinstance(logits, array)
    assert largest_difference(logits, expected) <= TOLERANCE
    assert capsys.readouterr().out == model.encoder.decode([int(expected[-1].argmax())]) + "\n"
