"""Nothing that the inside views draw is invented: no code there can make a random number."""

import ast
import re

import pytest

from tests.helpers.paths import ROOT

MODULES = [
    ROOT / "webapp" / "drawing.py",
    *sorted((ROOT / "webapp" / "inside").rglob("*.py")),
    *sorted((ROOT / "gpt2core" / "inside").rglob("*.py")),
]
FILES = [*sorted((ROOT / "templates" / "inside").rglob("*.html")), ROOT / "static/js/inside.js"]
MAKERS = ("random", "rng", "secrets", "urandom", "uuid")


def makers_in(source: str) -> set[str]:
    """Names in Python code, imported or used, that make random numbers; words do not count."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names |= set(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names |= set((node.module or "").split("."))
    return {name for name in names if any(maker in name.lower() for maker in MAKERS)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_of_the_inside_views_makes_random_numbers(path):
    assert makers_in(path.read_text("utf-8")) == set()


@pytest.mark.parametrize(
    "code",
    ["import random", "from numpy import random", "np.random.rand(3)", "default_rng(0)"]
    + ["from numpy.random import normal", "import secrets", "os.urandom(3)"],
)
def test_the_guard_sees_each_way_to_make_one(code):
    assert makers_in(code)


def test_no_template_and_no_script_of_the_inside_views_makes_random_numbers():
    """Jinja's filter and JavaScript's function; the word itself may stand in a sentence."""
    making = re.compile(r"\|\s*random|Math\s*\.\s*random|getRandomValues|randomUUID")
    assert making.search("{{ rows | random }}") and making.search("Math.random()")
    found = [path.name for path in FILES if making.search(path.read_text("utf-8"))]
    assert len(FILES) > 40 and not found
