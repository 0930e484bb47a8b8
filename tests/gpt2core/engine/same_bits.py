"""Run by ``test_engine_batch.py`` in a new process: the logits of a sequence, bit for bit.

Exits with a traceback if they depend on the sequences beside it, on how its prompt was cut or
on the number of threads, with float32 or int8 weights, or if those of float32 weights are not
those of the readable model.
"""

# ruff: noqa: I001
import os
from typing import get_args

import gpt2core.engine.engine
from gpt2core.engine import compiling
from gpt2core.engine.engine import Engine
from gpt2core.engine.packed import Precision, pack
from gpt2core.model import gpt2

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.small_models import LONG

PARAMS = LONG.params()
PACKED = {one: pack(PARAMS, LONG.hparams, one) for one in get_args(Precision)}


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(
    lengths=st.lists(st.integers(1, 190), min_size=1, max_size=6),
    cut=st.integers(1, 190),
    n_threads=st.integers(1, 2),
    precision=st.sampled_from(sorted(PACKED)),
)
def check(lengths, cut, n_threads, precision):
    # Many sequences, decoded together; each prompt is read in two chunks.
    together = Engine(PACKED[precision], LONG.hparams, len(lengths), n_threads=n_threads)
    texts = [LONG.ids()[:n] for n in lengths]
    slots = [together.open() for _ in texts]
    for slot, text in zip(slots, texts, strict=True):
        for chunk in (text[:cut], text[cut:]):
            if chunk:
                together.prefill(slot, chunk)
    steps = [together.step(slots, [7] * len(slots)) for _ in range(2)]
    # Each sequence alone, its prompt read at once.
    alone = Engine(PACKED[precision], LONG.hparams, n_threads=1)
    for row, text in enumerate(texts):
        slot = alone.open()
        alone.prefill(slot, text)
        for logits in steps:
            np.testing.assert_array_equal(alone.step([slot], [7])[0], logits[row])
        alone.close(slot)
        if precision == "int8":
            continue
        expected = gpt2([*text, 7, 7], **PARAMS, n_head=LONG.hparams.n_head)  # [n_seq, n_vocab]
        for at, logits in zip((-2, -1), steps, strict=True):
            np.testing.assert_allclose(logits[row], expected[at], rtol=0, atol=1e-4)


if __name__ == "__main__":
    thread = compiling.start()
    assert thread, "the kernels cannot be compiled here"
    thread.join()
    kernels = compiling.kernels()
    assert kernels, "the kernels could not be compiled"
    from gpt2core.engine import tiles  # imports Numba

    # Wide tiles are for AVX-512, and the parent may ask for the kernels of another processor.
    assert not (tiles.WIDE and os.environ.get("NUMBA_CPU_NAME"))
    gpt2core.engine.engine.MIN_WEIGHTS_FOR_THREADS = 0  # threads for a model as small as this
    check()
