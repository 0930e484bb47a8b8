"""What tests of several modules share: the tokenizer, small models, the bundled model."""

# ruff: noqa: E402, I001
import os
import threading

# Before NumPy, and for the servers that tests start too. The matrices are small: a second thread
# gains nothing, and waits for a processor that other tests use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gpt2core  # noqa: F401  before NumPy, so that it configures OpenBLAS
import numpy as np
import pytest
from hypothesis import settings

from gpt2core.engine import compiling, scheduler
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.vocabulary import default_encoder
from gpt2core.store.loader import Model, load_model
from tests.helpers.small_models import LOGIT_GOLDENS, SMALL_MODELS, SmallModel
from tests.helpers.web import PATIENCE
from tests.helpers.webapp_fixtures import (  # noqa: F401
    app,
    client,
    own_server,
    server,
    servers,
    slow_server,
)

# The same examples in every run, so that a red run is red again; and no time limit for
# a single one, because a busy machine is not a defect.
settings.register_profile("glyph", derandomize=True, deadline=None, database=None)
settings.load_profile("glyph")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """GPT-2's tokenizer."""
    return default_encoder()


@pytest.fixture(params=SMALL_MODELS)
def small_name(request) -> str:
    """The name of each small seeded model in turn."""
    return request.param


@pytest.fixture
def small(small_name) -> SmallModel:
    """Each small seeded model in turn."""
    return SMALL_MODELS[small_name]


@pytest.fixture(scope="session")
def logit_goldens() -> dict[str, np.ndarray]:
    """What Hugging Face transformers says on the small models; see tools/make_logit_goldens.py."""
    with np.load(LOGIT_GOLDENS, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def demo() -> Model:
    """The model that ships with the package."""
    return load_model("demo")


@pytest.fixture
def gate(monkeypatch):
    """Tokens are sampled only while the gate is open; ``gate.set()`` opens it."""
    gate = threading.Event()

    class Gated(scheduler.Sequence):
        def draw_next(self, logits):
            assert gate.wait(PATIENCE)
            return super().draw_next(logits)

    monkeypatch.setattr(scheduler, "Sequence", Gated)
    yield gate
    gate.set()


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels():
    """Kernels are compiled before the first test, so that no test meets both ways to compute."""
    thread = compiling.start()
    if thread:
        thread.join()
        assert compiling.kernels(), "the engine's kernels could not be compiled"
