"""Requests that schemathesis makes of /openapi.json, against the real server.

It sends requests that fit their schemas and requests that do not, and checks the answers: no
5xx, only statuses and media types that the document has, bodies that fit their schemas, and an
error for each request that does not fit. Requests that fit can be refused: what a model takes
depends on its context and its vocabulary.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from gpt2core.hparams import HParams
from tests.helpers.web import environment, write_small_model
from webapp.openapi import OPERATIONS

# A small context keeps texts short, so that most of the time goes into different requests.
SHAPE = HParams(n_ctx=24, n_embd=8, n_head=2, n_layer=1)


@pytest.fixture
def address(servers, tmp_path_factory):
    """Where a small model's document is."""
    models = tmp_path_factory.mktemp("models")
    write_small_model(models / "tiny", SHAPE)
    return servers("tiny", GPT2_MODEL="tiny", GPT2_MODELS_DIR=models).url + "/openapi.json"


def schemathesis(address: str, directory: Path, *options: str) -> None:
    """Run its command; fails with what it found."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", address, *options),
            *("--exclude-checks", "positive_data_acceptance", "--phases", "coverage,fuzzing"),
            *("--continue-on-failure", "--request-timeout", "60"),
        ],
        cwd=directory, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {len(OPERATIONS)}" in done.stdout


def test_every_answer_fits_the_document(address, tmp_path):
    schemathesis(address, tmp_path, "--max-examples", "5", "--seed", "1", "--no-shrink")


@pytest.mark.slow
def test_thousands_of_answers_fit_the_document(address, tmp_path):
    schemathesis(address, tmp_path, "--max-examples", "1000")
