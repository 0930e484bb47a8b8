"""Who may import whom: the house's rules, in the source and in a fresh interpreter.

``gpt2core`` is built in layers, each module importing only what stands below it or, in
no circle, beside it; ``webapp`` stands on top. The rules are those of
``docs/architecture.md``. A rule here is a function from source text to the names that
break it, so that each can be shown to notice what it forbids.
"""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Every module of gpt2core, lowest layer first. A new module fails until it has its place.
LAYERS = [
    {"errors", "settings", "blas", "team"},
    {"hparams", "files", "encoder", "sampling", "model"},
    {"engine", "layout", "weights", "terminal", "checkpoint", "download"},
    {"loader", "generate"},
    {"__init__", "__main__"},  # the public names, the command line
]
LAYER = {module: height for height, modules in enumerate(LAYERS) for module in modules}

# Beyond the layers.
NEVER = {"engine": {"encoder"}}
# Third-party packages of gpt2core that only one module may import, lazily or not.
ONLY_IN = {"tensorflow": "checkpoint", "requests": "download", "regex": "encoder"}
FOREIGN_TO_CORE = {"webapp", "flask", "werkzeug", "jinja2", "htmx_flask", "django", "gunicorn"}
# What may be loaded by importing a module alone, beside the standard library.
LOADED_BY = {
    "errors": set(),
    "hparams": set(),
    "encoder": {"regex"},
    "sampling": {"numpy"},
    "model": {"numpy"},
    "engine": {"numpy"},
    "generate": {"numpy"},
}

DECODING_MODULE = "scheduler"
REQUEST_MODULES = {"pages", "generation", "bpe", "downloads", "api", "ops", "errors"}


# What a source imports


def modules_of(package: str) -> dict[str, str]:
    """Name -> source of every module of a package, which must be there."""
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"{package} has no modules"
    return {
        ".".join(path.relative_to(ROOT / package).with_suffix("").parts): path.read_text("utf-8")
        for path in paths
    }


def imported_names(source: str, package: str) -> set[str]:
    """Full names of all that ``source``, a module right inside ``package``, imports anywhere.

    ``import a.b`` gives ``a.b``; ``from a.b import c`` gives ``a.b.c``.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative
                base = f"{package}.{base}".rstrip(".")
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def core_modules(source: str) -> set[str]:
    """Modules of gpt2core that ``source``, one of them, imports; ``__init__`` for the package."""
    parts = [name.split(".") for name in imported_names(source, "gpt2core")]
    return {
        name[1] if len(name) > 1 and name[1] in LAYER else "__init__"
        for name in parts
        if name[0] == "gpt2core"
    }


CORE = modules_of("gpt2core")
WEBAPP = modules_of("webapp")
each_core_module = pytest.mark.parametrize("module", CORE)
each_webapp_module = pytest.mark.parametrize("module", WEBAPP)


# gpt2core


def test_every_module_of_the_core_has_its_layer():
    assert set(CORE) - set(LAYER) == set(), "say in LAYERS where these stand"


def imports_from_above(module: str, source: str) -> set[str]:
    return {other for other in core_modules(source) if LAYER[other] > LAYER[module]} | (
        core_modules(source) & NEVER.get(module, set())
    )


@each_core_module
def test_imports_of_the_core_point_one_way(module):
    assert imports_from_above(module, CORE[module]) == set()


def test_no_modules_of_the_core_import_each_other_in_a_circle():
    TopologicalSorter({name: core_modules(source) for name, source in CORE.items()}).prepare()


@each_core_module
def test_the_core_knows_nothing_of_the_web(module):
    assert tops(imported_names(CORE[module], "gpt2core")) & FOREIGN_TO_CORE == set()


def misplaced_packages(module: str, source: str) -> set[str]:
    imported = tops(imported_names(source, "gpt2core"))
    return {name for name, only in ONLY_IN.items() if name in imported and module != only}


@each_core_module
def test_tensorflow_requests_and_regex_are_each_imported_by_one_module(module):
    assert misplaced_packages(module, CORE[module]) == set()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("model", "from gpt2core.engine import Engine", {"engine"}),
        ("model", "def f():\n    import gpt2core.engine", {"engine"}),
        ("model", "from . import engine", {"engine"}),
        ("model", "from .engine import Engine as E", {"engine"}),
        ("model", "from gpt2core import gpt2", {"__init__"}),
        ("model", "import gpt2core", {"__init__"}),
        ("engine", "from gpt2core.encoder import Encoder", {"encoder"}),
        ("engine", "from gpt2core.model import gelu", set()),
        ("errors", "from gpt2core.hparams import HParams", {"hparams"}),
        ("loader", "from gpt2core.encoder import Encoder\nimport json", set()),
    ],
)
def test_an_import_from_above_is_noticed(module, source, found):
    assert imports_from_above(module, source) == found


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("loader", "def f():\n    import tensorflow as tf", {"tensorflow"}),
        ("loader", "from tensorflow.train import load_checkpoint", {"tensorflow"}),
        ("checkpoint", "import tensorflow", set()),
        ("encoder", "import requests.adapters", {"requests"}),
        ("encoder", "import regex", set()),
    ],
)
def test_a_misplaced_package_is_noticed(module, source, found):
    assert misplaced_packages(module, source) == found


# webapp


def engine_touched(source: str) -> set[str]:
    """Names in ``source`` that reach for what decodes: an Engine, or a function that runs one."""
    forbidden = {
        *("gpt2core", "gpt2core.engine", "gpt2core.generate", "gpt2core.stream"),
        *("gpt2core.generate.stream", "gpt2core.generate.generate", "gpt2core.generate.*"),
        *("gpt2core.*", "gpt2core.model", "gpt2core.model.gpt2", "gpt2core.gpt2"),
    }
    imported = imported_names(source, "webapp")
    words = {"Engine", "KVCache", "engine", "_engine"}
    spoken = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    named = {name for name in imported if words & set(name.split("."))}
    return (imported & forbidden) | named | (spoken & words)


def request_touched(source: str) -> set[str]:
    """Names in ``source`` by which it gets at the request that is being answered."""
    imported = {
        name
        for name in imported_names(source, "webapp")
        if {"request", "request_ctx", "globals", "*"} & set(name.split(".")[1:])
        and not name.startswith("urllib.")
    }
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr in {"request", "request_ctx", "globals"}
    }
    return imported | {name for name in attributes if tops({name}) & {"flask", "htmx_flask"}}


def test_the_scheduler_is_the_one_that_decodes():
    assert "gpt2core.engine.Engine" in imported_names(WEBAPP[DECODING_MODULE], "webapp")


@each_webapp_module
def test_only_the_scheduler_touches_an_engine(module):
    if module != DECODING_MODULE:
        assert engine_touched(WEBAPP[module]) == set()


@each_webapp_module
def test_only_routes_and_errors_touch_the_request(module):
    if module not in REQUEST_MODULES:
        assert request_touched(WEBAPP[module]) == set()


def test_the_routes_do_touch_the_request():
    assert request_touched(WEBAPP["generation"]) and request_touched(WEBAPP["pages"])


@each_webapp_module
def test_the_page_imports_neither_django_nor_what_only_models_files_need(module):
    imported = tops(imported_names(WEBAPP[module], "webapp"))
    assert imported & {"django", "django_htmx", "tensorflow", "requests", "safetensors"} == set()


@pytest.mark.parametrize(
    "source",
    [
        "from gpt2core.engine import Engine",
        "from gpt2core.engine import Engine as Fast",
        "from gpt2core import Engine",
        "import gpt2core.engine",
        "import gpt2core",
        "from gpt2core import stream",
        "from gpt2core.generate import stream",
        "from gpt2core.generate import *",
        "from webapp.scheduler import Engine",
        "from .scheduler import Engine",
        "def f(scheduler):\n    return scheduler._engine.new_cache()",
    ],
)
def test_a_hand_on_the_engine_is_noticed(source):
    assert engine_touched(source)


@pytest.mark.parametrize(
    "source",
    [
        "from flask import request",
        "from flask import Blueprint, request as r",
        "from flask.globals import request_ctx",
        "from flask import globals",
        "from flask import *",
        "from htmx_flask import request",
        "import flask\nflask.request.form",
        "def f():\n    from flask import request",
    ],
)
def test_a_hand_on_the_request_is_noticed(source):
    assert request_touched(source)


@pytest.mark.parametrize(
    "source",
    [
        "from gpt2core.generate import GeneratedToken\nfrom webapp.scheduler import Scheduler",
        "from flask import current_app\ndef f(request):\n    return request.prompt",
        "import urllib.request",
    ],
)
def test_what_is_allowed_is_not_complained_about(source):
    assert engine_touched(source) == set() and request_touched(source) == set()


# In a fresh interpreter

REPORT = """
import json, sys
before = set(sys.modules)
{statements}
print(json.dumps([
    name for name in sys.modules.keys() - before
    if getattr(sys.modules[name], "__file__", None)
    and name.split(".")[0] not in sys.stdlib_module_names
]))
"""

# The package without what its __init__ imports, to see what one module brings by itself.
BARE_PACKAGE = """
import importlib, types
package = types.ModuleType("gpt2core")
package.__path__ = ["gpt2core"]
sys.modules["gpt2core"] = package
importlib.import_module("gpt2core.{module}")
"""


def modules_loaded_by(statements: str) -> set[str]:
    """Names of the modules, but for Python's own, that ``statements`` load in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(statements=statements)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_fresh_interpreter_tells_what_was_loaded():
    assert {"regex", "gpt2core.engine"} <= modules_loaded_by("import gpt2core.engine, regex")


def test_importing_the_core_loads_numpy_and_regex_only():
    loaded = tops(modules_loaded_by("import gpt2core"))
    assert loaded == {"gpt2core", "numpy", "regex"}


@pytest.mark.parametrize("module", [name for layer in LAYERS[:-1] for name in sorted(layer)])
def test_a_module_alone_loads_only_what_stands_below_it(module):
    loaded = modules_loaded_by(BARE_PACKAGE.format(module=module))
    assert f"gpt2core.{module}" in loaded
    core = {name.split(".")[1] for name in loaded if name.startswith("gpt2core.")}
    assert {other for other in core if LAYER[other] > LAYER[module]} == set()
    assert core & NEVER.get(module, set()) == set()
    assert tops(loaded) & (FOREIGN_TO_CORE | {"tensorflow"}) == set()
    if module in LOADED_BY:
        assert tops(loaded) - {"gpt2core"} == LOADED_BY[module]


def test_generating_with_the_bundled_model_loads_no_more_than_importing_did():
    loaded = modules_loaded_by(
        "from gpt2core import generate, load_model\n"
        "model = load_model('demo')\n"
        "ids = model.encoder.encode('Not all heroes')\n"
        "assert len(generate(ids, model.params, model.hparams.n_head, 2)) == 2"
    )
    assert tops(loaded) == {"gpt2core", "numpy", "regex"}


def test_importing_the_page_loads_no_django_tensorflow_or_requests():
    loaded = tops(modules_loaded_by("import webapp\nwebapp.create_app()"))
    assert {"webapp", "gpt2core", "flask"} <= loaded
    assert loaded & {"django", "django_htmx", "tensorflow", "requests", "safetensors"} == set()
