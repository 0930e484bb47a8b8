"""OpenAI's 124M itself: what the mission promises of it, where its files are.

Skipped where ``models/124M`` (or ``$GPT2_MODELS_DIR/124M``) is not ready; make it so with
``python -m gpt2core download 124M``. Half a gigabyte is not fetched by a test.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

import gpt2core
from tests.helpers.paths import ROOT

MODELS_DIR = os.environ.get("GPT2_MODELS_DIR") or str(ROOT / "models")
STATE = gpt2core.model_state("124M", MODELS_DIR).status
PROMPT = "Alan Turing theorized that computers would one day become"
IDS = [36235, 39141, 18765, 1143, 326, 9061, 561, 530, 1110, 1716]
GREEDY = [262, 749, 3665, 8217, 319, 262, 5440, 13]
TEXT = " the most powerful machines on the planet."

pytestmark = pytest.mark.skipif(
    STATE != "ready",
    reason=f"{MODELS_DIR}/124M is {STATE}: `python -m gpt2core download 124M` makes it ready",
)


@pytest.fixture(scope="module")
def gpt2_124m():
    return gpt2core.load_encoder_hparams_and_params("124M", MODELS_DIR)


def test_the_number_of_parameters(gpt2_124m):
    _, hparams, params = gpt2_124m

    def count(tree) -> int:
        if isinstance(tree, np.ndarray):
            return tree.size
        return sum(count(part) for part in (tree.values() if isinstance(tree, dict) else tree))

    assert count(params) == gpt2core.HParams(**hparams).n_params == 124_439_808


def test_the_prompt_and_its_continuation(gpt2_124m):
    encoder, hparams, params = gpt2_124m
    assert encoder.encode(PROMPT) == IDS
    assert gpt2core.generate(IDS, params, hparams["n_head"], 8) == GREEDY
    assert encoder.decode(GREEDY) == TEXT


def test_the_readable_forward_pass_agrees(gpt2_124m):
    _, hparams, params = gpt2_124m
    logits = gpt2core.gpt2(IDS + GREEDY[:-1], **params, n_head=hparams["n_head"])
    assert logits[len(IDS) - 1 :].argmax(axis=-1).tolist() == GREEDY


def test_the_command_line():
    result = subprocess.run(
        [sys.executable, "-m", "gpt2core", PROMPT, "--n_tokens_to_generate", "8"]
        + ["--model_size", "124M", "--models_dir", MODELS_DIR],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{TEXT}\n"
