"""Sequences that run together get the logits they get alone, those of the readable model."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2core.engine.engine
from gpt2core.engine.engine import Engine
from gpt2core.model import gpt2
from tests.helpers.paths import ROOT
from tests.helpers.small_models import LONG, SMALL_MODELS, TOLERANCE

N_SLOTS = 4
AVX2_FEATURES = "+avx,+avx2,+fma,+bmi,+bmi2"
MODELS = {**SMALL_MODELS, "long": LONG}
PARAMS = {name: small.params() for name, small in MODELS.items()}


@pytest.fixture(autouse=True, scope="module")
def threads_for_small_models():
    """Engines use as many threads as they are given, although these models are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt2core.engine.engine, "MIN_WEIGHTS_FOR_THREADS", 0)
        yield


class Run:
    """Sequences on one engine, each compared with the readable model after every token."""

    def __init__(self, name: str, n_threads: int):
        self.hparams, self.params = MODELS[name].hparams, PARAMS[name]
        self.engine = Engine(self.params, self.hparams, N_SLOTS, n_threads=n_threads)
        self.texts: dict[int, list[int]] = {}  # slot -> what it must hold

    def arrive(self, ids, n_chunks):
        """A prompt, read in several chunks."""
        slot = self.engine.open()
        chunks = np.array_split(np.array(ids), min(n_chunks, len(ids)))
        for i, chunk in enumerate(chunks, start=1):
            logits = self.engine.prefill(slot, chunk.tolist(), more_follow=i < len(chunks))
        self.texts[slot] = list(ids)
        self.check(slot, logits)

    def step(self, slots, ids):
        logits = self.engine.step(slots, ids)
        assert logits.shape == (len(slots), self.hparams.n_vocab)
        for slot, id, row in zip(slots, ids, logits, strict=True):
            self.texts[slot].append(id)
            self.check(slot, row)

    def leave(self, slot):
        self.engine.close(slot)
        del self.texts[slot]

    def check(self, slot, logits):
        text = self.texts[slot]
        assert self.engine.length(slot) == len(text)
        expected = gpt2(text, **self.params, n_head=self.hparams.n_head)[-1]
        assert np.abs(logits - expected).max() <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(data=st.data())
def test_sequences_that_come_and_go_get_the_readable_models_logits(name, data):
    run = Run(name, n_threads=data.draw(st.integers(1, 2)))
    id = st.integers(0, run.hparams.n_vocab - 1)
    for _ in range(data.draw(st.integers(1, 12))):
        room = [s for s, text in run.texts.items() if len(text) < run.hparams.n_ctx]
        choices = ["arrive"] * (len(run.texts) < N_SLOTS) + ["step", "step"] * bool(room)
        action = data.draw(st.sampled_from(choices + ["leave"] * bool(run.texts)))
        if action == "arrive":
            n_ids = data.draw(st.integers(1, run.hparams.n_ctx))
            start = data.draw(st.integers(0, run.hparams.n_ctx - n_ids))
            ids = MODELS[name].ids()[start : start + n_ids]
            run.arrive(ids, data.draw(st.integers(1, 4)))
        elif action == "step":
            slots = data.draw(st.lists(st.sampled_from(room), min_size=1, unique=True))
            run.step(slots, [data.draw(id) for _ in slots])
        else:
            run.leave(data.draw(st.sampled_from(sorted(run.texts))))


@pytest.mark.parametrize("n_slots", [1, 2, 3, 7, 8, 9, 25])
def test_any_number_of_sequences_at_once(n_slots):
    """Around the number of rows that go into one product."""
    params, hparams = PARAMS["long"], LONG.hparams
    engine = Engine(params, hparams, n_slots)
    texts = [LONG.ids()[n : 2 * n + 1] for n in range(n_slots)]
    slots = [engine.open() for _ in texts]
    for slot, text in zip(slots, texts, strict=True):
        engine.prefill(slot, text)
    logits = engine.step(slots, [text[0] for text in texts])
    for text, row in zip(texts, logits, strict=True):
        expected = gpt2([*text, text[0]], **params, n_head=hparams.n_head)[-1]
        assert np.abs(row - expected).max() <= TOLERANCE


def run_with_kernels_of(processor: str, *arguments: str) -> None:
    """Run ``python -m ...`` with the kernels of this processor, or of one with AVX2 only."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    if processor == "haswell":
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("these kernels are for x86-64")
        environment |= {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2_FEATURES}
        environment |= {"OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("processor", ["native", "haswell"])
def test_logits_are_the_same_to_the_last_bit_whatever_else_runs(processor):
    run_with_kernels_of(processor, "tests.gpt2core.engine.same_bits")


def test_kernels_for_avx2_give_what_the_plain_functions_give():
    folder = ROOT / "tests/gpt2core/engine"
    modules = [str(folder / f"test_{name}.py") for name in ("kernels", "engine")]
    run_with_kernels_of("haswell", "pytest", "-q", "-p", "no:cacheprovider", *modules)
