"""A text is the same whoever is served beside it, also where logits then differ a little."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.company import N_ALONE
from tests.helpers.paths import ROOT

N_TOKENS = 100


@pytest.mark.parametrize("kernels", [None, "Haswell"])
def test_a_seed_gives_the_same_text_alone_and_beside_seven_others(kernels):
    # With OpenBLAS's kernels for processors without AVX-512, the logits of several rows differ
    # from those of one row by up to 2e-5.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OPENBLAS_CORETYPE", None)
    if kernels:
        environment["OPENBLAS_CORETYPE"] = kernels
    run = subprocess.run(
        [sys.executable, "-m", "tests.helpers.company", str(N_TOKENS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout)
    assert [len(ids) for ids in found["alone"]] == [N_TOKENS] * N_ALONE
    assert found["alone"] == found["together"][:N_ALONE]
