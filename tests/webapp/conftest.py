"""What tests with other programs share: the served model in both precisions of its weights."""

from dataclasses import replace

import pytest

from gpt2core.store.loader import Model
from tests.helpers.small_models import TOLERANCES, int8_params


@pytest.fixture(params=["float32", pytest.param("int8", marks=pytest.mark.slow)])
def weights(request) -> str:
    """The precision of the weights that are served."""
    return request.param


@pytest.fixture
def served(servers, weights):
    """The page as ``make run`` serves it, with these weights, nothing running."""
    return servers("demo") if weights == "float32" else servers("int8", GPT2_WEIGHTS=weights)


@pytest.fixture(scope="session")
def int8_model(demo) -> Model:
    """The bundled model with its weights rounded as int8 has them."""
    return replace(demo, params=int8_params(demo.params))


@pytest.fixture
def readable(demo, weights, int8_model) -> Model:
    """What the readable model computes with these weights is what the server has to answer."""
    return demo if weights == "float32" else int8_model


@pytest.fixture
def tolerance(weights) -> float:
    """How far a log-probability of the server may be from that of the readable model."""
    return TOLERANCES[weights]
