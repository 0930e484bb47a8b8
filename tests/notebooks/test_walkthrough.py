"""The notebook runs from top to bottom, and is kept without what a run made."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from gpt2core import model_state
from tests.helpers.paths import ROOT

# On Windows the event loop cannot watch sockets, so tornado watches them in a thread.
pytestmark = pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning")
PATH = ROOT / "notebooks" / "walkthrough.ipynb"
TEN = ("gelu", "softmax", "layer_norm", "linear", "ffn", "attention", "mha", "transformer_block")
TEN += ("unembed", "gpt2")


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


def run(notebook, model: str, monkeypatch) -> list[str]:
    """The HTML and text of all outputs. Raises CellExecutionError for a cell that fails."""
    monkeypatch.setenv("GPT2_MODEL", model)
    # What an installed package needs no path for.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.get("data", {}) for output in outputs]
    assert all("text/plain" in data for data in shown if data)
    return [data["text/html"] for data in shown if "text/html" in data] + [
        output.text for output in outputs if "text" in output
    ]


def check(outputs: list[str]) -> None:
    """Chips, a generation, a head, the lens, an attribution and all ten functions are shown."""
    whole = "\n".join(outputs)
    for sign in ('class="chip c0"', "chip c0 generated", "inside-matrix", "inside-lens"):
        assert sign in whole
    assert "inside-ledger" in whole
    assert [name for name in TEN if f"def {name}(" not in whole] == []


def test_it_runs_on_the_bundled_model(notebook, monkeypatch):
    check(run(notebook, "demo", monkeypatch))
    compared = [
        output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("data", {}).get("text/plain") in ("True", "False")
    ]
    assert compared == ["True"] * 5  # what is computed by hand is what the functions compute


@pytest.mark.slow
def test_it_runs_on_124m(notebook, monkeypatch):
    if model_state("124M", os.environ.get("GPT2_MODELS_DIR", "models")).status != "ready":
        pytest.skip("the model 124M is not here; `python -m gpt2core download 124M` brings it")
    check(run(notebook, "124M", monkeypatch))


def test_it_is_kept_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 30
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]
    assert not [cell.id for cell in notebook.cells if cell.metadata]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}  # of no Python version in particular


def test_it_needs_no_path(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "sys.path" not in code and "chdir" not in code
