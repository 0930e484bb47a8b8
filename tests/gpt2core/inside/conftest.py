"""What the tests of the inside views share: goldens, and recordings of the small models."""

import numpy as np
import pytest

from gpt2core.inside.recording import Recording, record_pass
from tests.helpers.small_models import INSIDE_GOLDENS

N_TOKENS = 10  # as many as the goldens have


@pytest.fixture(scope="session")
def inside_goldens() -> dict[str, np.ndarray]:
    """What transformers and TransformerLens see inside; see tools/make_inside_goldens.py."""
    with np.load(INSIDE_GOLDENS, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def golden(small_name, inside_goldens) -> dict[str, np.ndarray]:
    """The same of one small model: ``attentions``, ``resid_mid`` …"""
    own = {key: a for key, a in inside_goldens.items() if key.startswith(f"{small_name}/")}
    return {key.removeprefix(f"{small_name}/"): array for key, array in own.items()}


@pytest.fixture
def recording(small) -> Recording:
    """A recorded pass of each small model over the first of its ids."""
    return record_pass(small.ids()[:N_TOKENS], small.params(), small.hparams.n_head)
