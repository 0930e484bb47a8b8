"""OpenBLAS is configured before NumPy loads it."""

import os
import subprocess
import sys

import pytest

from gpt2core.engine import processors
from gpt2core.settings import SettingError
from tests.helpers.paths import ROOT

AVX512 = "flags\t\t: fpu avx avx2 avx512f avx512dq avx512cd avx512bw avx512vl\n"


def cpuinfo(tmp_path, flags):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\n{flags}model name\t: an unknown one\n")
    return path


def settings_after(statements, **environment) -> list[str]:
    """OpenBLAS's kernels, threads and time-out in a new process after ``statements``."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "GPT2"))}
    names = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT")
    report = f"import os; print(*map(os.environ.get, {names}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{report}"],
        cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        (AVX512, True),
        (AVX512.replace(" avx512bw", ""), False),
        ("flags\t\t: sse2\n", False),
        ("", False),
    ],
)
def test_avx512_is_read_from_the_processors_flags(tmp_path, flags, has):
    assert processors.has_avx512(cpuinfo(tmp_path, flags)) is has


def test_an_unknown_system_has_no_avx512(tmp_path):
    assert processors.has_avx512(tmp_path / "nothing") is False


def test_importing_the_package_configures_openblas_before_numpy():
    expected = ["SKYLAKEX" if processors.has_avx512() else "None", "None", "20"]
    assert settings_after("import gpt2core") == expected


def test_variables_that_are_set_stay():
    environment = {
        "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "3", "OPENBLAS_THREAD_TIMEOUT": "9"
    }  # fmt: skip
    assert settings_after("import gpt2core", **environment) == ["Haswell", "3", "9"]


def test_nothing_is_set_if_numpy_is_loaded_already():
    assert settings_after("import numpy, gpt2core") == ["None", "None", "None"]


def test_configuring_loads_no_numpy():
    # The module without its package, which imports everything. Raises if the program fails.
    settings_after(
        "import sys, types\n"
        "sys.modules['gpt2core'] = package = types.ModuleType('gpt2core')\n"
        f"package.__path__ = [{str(ROOT / 'gpt2core')!r}]\n"
        "from gpt2core.engine import processors\n"
        "processors.configure()\n"
        "assert 'numpy' not in sys.modules"
    )


@pytest.mark.parametrize(("n_workers", "n"), [(1, 6), (2, 3), (4, 1), (100, 1), (0, 6)])
def test_workers_share_the_processors(monkeypatch, n_workers, n):
    monkeypatch.delenv(processors.THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(processors, "n_processors", lambda: 6)
    assert processors.n_threads() == 6
    monkeypatch.setenv(processors.THREADS_VARIABLE, "0")  # so that it is restored
    monkeypatch.delenv(processors.THREADS_VARIABLE)
    processors.share_processors(n_workers)
    assert processors.n_threads() == n


def test_a_number_of_threads_that_is_set_stays(monkeypatch):
    monkeypatch.setenv(processors.THREADS_VARIABLE, "5")
    processors.share_processors(3)
    assert processors.n_threads() == 5


@pytest.mark.parametrize("value", ["many", "-2", "0", "1.5"])
def test_an_invalid_number_of_threads_is_an_error_that_names_the_variable(monkeypatch, value):
    monkeypatch.setenv(processors.THREADS_VARIABLE, value)
    with pytest.raises(SettingError, match=f"GPT2_THREADS is '{value}'; it must be a whole number"):
        processors.n_threads()


def test_an_empty_number_of_threads_counts_as_unset(monkeypatch):
    monkeypatch.setattr(processors, "n_processors", lambda: 6)
    monkeypatch.setenv(processors.THREADS_VARIABLE, "")
    assert processors.n_threads() == 6
    processors.share_processors(2)
    assert processors.n_threads() == 3
