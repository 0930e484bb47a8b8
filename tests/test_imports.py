"""The import order of both packages, checked in the source and in a fresh interpreter.

A module imports only modules on earlier lines of ``CORE_ORDER`` and ``WEB_ORDER``.
``docs/architecture.md`` draws the same order. A rule here is a function from source text
to the names that break it, so that tests can show that each rule notices what it forbids.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# Every module of gpt2core, lowest line first; modules on one line do not import each other.
# A new module fails until it is listed. Packages are listed by what their __init__ imports.
CORE_ORDER = [
    {"errors", "engine", "inside", "store", "tokenizer"},
    {"display", "settings", "files", "hparams", "sampling", "model"},
    # Below engine, store and tokenizer, because inside runs on ids and arrays alone.
    {"inside.recorder", "inside.funnel", "inside.vocabulary", "inside.findings"},
    {"inside.recording"},
    {"inside.attribution", "inside.lens"},
    {"inside.heads"},
    {"inside.interventions"},
    {"inside.document", "inside.reading"},
    {"inside.report"},
    {"tokenizer.alphabet", "tokenizer.decoding", "tokenizer.pattern", "store.folder"}
    | {"store.tensor_files"},
    {"store.shards", "tokenizer.added"},
    {"tokenizer.table"},
    {"store.weights", "tokenizer.bpe", "tokenizer.json_settings"},
    {"tokenizer.explain", "tokenizer.vocabulary", "tokenizer.added_table"},
    {"tokenizer.tokenizer_json"},
    {"tokenizer.folder"},
    {"engine.processors", "engine.gates", "engine.packed", "engine.penalties"},
    {"engine.compiling", "engine.sequence", "engine.plain", "store.packed_files"},
    {"engine.tiles"},
    {"engine.phases"},
    {"engine.elementwise", "engine.products"},
    {"engine.kernels"},
    {"store.verify", "store.checkpoint", "store.widening", "terminal", "engine.scores"},
    {"engine.engine", "engine.events"},
    {"engine.policy", "engine.observer"},
    {"stopping", "store.download"},
    {"continuation"},
    {"generate", "store.loader", "engine.scheduler"},
    {"inside.command", "store.preparation", "store.inspection", "store.reading"},
    {"cli_models", "scoring", "showing"},
    {"score_report"},
    {"serving"},
    {"cli"},
    {"__init__", "__main__"},  # the public names, the command line's entry
]
# The same for webapp. Modules in routes answer requests and never import each other.
WEB_ORDER = [
    {"routes", "gallery", "inside", "inside.steps", "inside.instruments"},
    {"assets", "sse", "formatting", "links", "drawing", "proxies", "connection"}
    | {"inside.numbers", "memory", "metric_files", "request_log"},
    {"inside.recordings", "inside.window", "inside.source", "static_files", "version"},
    {"inside.readings"},
    {"forms", "chips", "services", "schemas", "openai_schemas", "batch", "answers"}
    | {"notebook_style"},
    {"inside.query", "inside.labels", "templating", "cut"},
    {"surprise"},
    {"views", "explanation", "openapi", "request", "snippets", "inside.view"},
    {"work", "streaming", "token_messages", "metrics"},
    {"limits", "page", "generating", "completions", "inside.pattern"}
    | {"gallery.entry", "comparison"}
    | {"inside.steps.step", "inside.steps.common"},
    {"scoring", "inside.instruments.options", "inside.instruments.measures"}
    | {"gallery.words", "gallery.signs", "gallery.scripts"},
    {"inside.instruments.heads", "inside.instruments.attribution", "inside.instruments.lens"},
    {
        "inside.instruments.ablation",
        "inside.instruments.texts",
        "inside.instruments.neurons",
        "inside.instruments.neighbours",
        "inside.instruments.reading",
    },
    {"inside.steps.lookback", "inside.instruments.patching"},
    {
        *("error_handlers", "inside.steps.text", "inside.steps.embedding", "inside.steps.norm"),
        *("inside.steps.attention", "inside.steps.layers", "inside.steps.output"),
    },
    {"inside.steps.mixing", "inside.instruments.sampling"},
    {"inside.steps.registry", "gallery.groups", "notebook"},
    {"inside.page"},
    {"routes.inside_pages", "routes.inside_files", "routes.instruments"}
    | {"routes.neurons", "routes.ablation", "routes.patching", "routes.reading"},
    {"routes.ops", "routes.pages", "routes.stream", "routes.bpe", "routes.export"}
    | {"routes.scores", "routes.openai", "routes.api", "routes.gallery", "routes.compare"}
    | {"routes.metrics"},
    {"__init__"},
    {"command", "worker"},
]


def levels(order: list[set[str]]) -> dict[str, int]:
    return {module: level for level, modules in enumerate(order) for module in modules}


CORE_LEVEL, WEB_LEVEL = levels(CORE_ORDER), levels(WEB_ORDER)

# Beyond the order: the engine runs on ids and arrays alone, the policy without the engine.
BESIDE_THE_ENGINE = {name for name in CORE_LEVEL if name.startswith(("store.", "tokenizer."))}
NEVER = {
    **{name: BESIDE_THE_ENGINE for name in CORE_LEVEL if name.startswith("engine.")},
    "engine.policy": BESIDE_THE_ENGINE | {"engine.engine", "engine.kernels", "engine.plain"},
}
# Third-party packages of gpt2core that only one module may import, lazily or not.
ONLY_IN = {
    "tensorflow": "store.checkpoint",
    "requests": "store.download",
    "regex": "tokenizer.pattern",
    "llvmlite": "engine.tiles",
}
# The one module that imports the page, when a notebook wants HTML and not before.
ONLY_FOR_NOTEBOOKS = {"display": {"webapp"}}
FOREIGN_TO_CORE = {"webapp", "flask", "werkzeug", "jinja2", "htmx_flask", "django", "gunicorn"}
FOREIGN_TO_CORE |= {"prometheus_client"}
# What may be loaded by importing a module alone, beside the standard library.
LOADED_BY = {
    "errors": set(),
    "hparams": set(),
    "tokenizer.bpe": {"regex"},
    "sampling": {"numpy"},
    "model": {"numpy"},
    "inside.document": {"numpy"},
    "engine.engine": {"numpy"},
    "generate": {"numpy"},
}

REQUEST_MODULES = {"request"}  # beside the routes
# What templates show and what fields mean depends on no web framework.
WITHOUT_FLASK = {"forms", "chips", "views", "explanation", "formatting", "snippets", "sse"}
WITHOUT_FLASK |= {"surprise", "schemas", "openai_schemas", "batch", "completions"}
WITHOUT_FLASK |= {"cut", "comparison", "gallery.entry", "request_log", "metrics", "metric_files"}


# What a source imports


def modules_of(package: str) -> dict[str, str]:
    """Name -> source of every module of a package; ``engine`` is the package in that folder."""
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"{package} has no modules"
    return {
        module_name(path.relative_to(ROOT / package)): path.read_text("utf-8") for path in paths
    }


def module_name(path: Path) -> str:
    name = ".".join(path.with_suffix("").parts)
    return name if name == "__init__" else name.removesuffix(".__init__")


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


def imported_modules(source: str, package: str, level: dict[str, int]) -> set[str]:
    """Modules of ``package`` that ``source``, one of them, imports; ``__init__`` for itself."""
    found = set()
    for name in imported_names(source, package):
        top, *parts = name.split(".")
        if top == package:
            known = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            found.add(next((module for module in known if module in level), "__init__"))
    return found


def imports_from_above(module: str, source: str, package: str, level: dict[str, int]) -> set[str]:
    """Modules that ``module`` imports although they are not on a line below its own."""
    imported = imported_modules(source, package, level)
    return {other for other in imported if level[other] >= level[module]} | (
        imported & NEVER.get(module, set())
    )


CORE = modules_of("gpt2core")
WEBAPP = modules_of("webapp")
each_core_module = pytest.mark.parametrize("module", CORE)
each_webapp_module = pytest.mark.parametrize("module", WEBAPP)


def test_every_module_is_listed_once_and_every_listed_module_exists():
    assert sorted(CORE) == sorted(name for line in CORE_ORDER for name in line)
    assert sorted(WEBAPP) == sorted(name for line in WEB_ORDER for name in line)


# gpt2core


@each_core_module
def test_imports_of_the_core_point_one_way(module):
    assert imports_from_above(module, CORE[module], "gpt2core", CORE_LEVEL) == set()


@each_core_module
def test_the_core_knows_nothing_of_the_web(module):
    foreign = tops(imported_names(CORE[module], "gpt2core")) & FOREIGN_TO_CORE
    assert foreign == ONLY_FOR_NOTEBOOKS.get(module, set())


def misplaced_packages(module: str, source: str) -> set[str]:
    imported = tops(imported_names(source, "gpt2core"))
    return {name for name, only in ONLY_IN.items() if name in imported and module != only}


@each_core_module
def test_tensorflow_requests_and_regex_are_each_imported_by_one_module(module):
    assert misplaced_packages(module, CORE[module]) == set()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("model", "from gpt2core.engine.engine import Engine", {"engine.engine"}),
        ("model", "def f():\n    import gpt2core.engine.engine", {"engine.engine"}),
        ("model", "from gpt2core.engine import engine", {"engine.engine"}),
        ("model", "from gpt2core.sampling import draw", {"sampling"}),
        ("model", "from gpt2core import gpt2", {"__init__"}),
        ("model", "import gpt2core", {"__init__"}),
        ("engine.engine", "from gpt2core.tokenizer.bpe import Encoder", {"tokenizer.bpe"}),
        ("engine.packed", "from gpt2core.store.weights import load", {"store.weights"}),
        ("engine.engine", "from gpt2core.model import gelu", set()),
        ("errors", "from gpt2core.hparams import HParams", {"hparams"}),
        ("store.loader", "from gpt2core.tokenizer.bpe import Encoder\nimport json", set()),
    ],
)
def test_an_import_from_above_is_noticed(module, source, found):
    assert imports_from_above(module, source, "gpt2core", CORE_LEVEL) == found


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("store.loader", "def f():\n    import tensorflow as tf", {"tensorflow"}),
        ("store.loader", "from tensorflow.train import load_checkpoint", {"tensorflow"}),
        ("store.checkpoint", "import tensorflow", set()),
        ("tokenizer.bpe", "import requests.adapters", {"requests"}),
        ("tokenizer.pattern", "import regex", set()),
    ],
)
def test_a_misplaced_package_is_noticed(module, source, found):
    assert misplaced_packages(module, source) == found


# webapp


@each_webapp_module
def test_imports_of_the_page_point_one_way(module):
    assert imports_from_above(module, WEBAPP[module], "webapp", WEB_LEVEL) == set()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("routes.bpe", "from webapp.routes.pages import index", {"routes.pages"}),
        ("routes.bpe", "from webapp.routes import pages", {"routes.pages"}),
        ("views", "from webapp.error_handlers import register", {"error_handlers"}),
        ("routes.export", "from webapp.routes.stream import stream_messages", {"routes.stream"}),
        ("views", "from webapp.request import response_kind", {"request"}),
        ("routes.bpe", "from webapp.chips import N_COLOURS", set()),
    ],
)
def test_a_route_that_imports_a_route_is_noticed(module, source, found):
    assert imports_from_above(module, source, "webapp", WEB_LEVEL) == found


def engine_touched(source: str) -> set[str]:
    """Names in ``source`` that reach for what decodes: an Engine, or a function that runs one."""
    forbidden = {
        *("gpt2core", "gpt2core.engine.engine", "gpt2core.generate", "gpt2core.stream"),
        *("gpt2core.generate.stream", "gpt2core.generate.generate", "gpt2core.generate.*"),
        *("gpt2core.*", "gpt2core.model", "gpt2core.model.gpt2", "gpt2core.gpt2"),
    }
    imported = imported_names(source, "webapp")
    spoken = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    named = {name for name in imported if name.startswith("gpt2core.engine.engine")}
    named |= {name for name in imported if name.split(".")[-1] == "Engine"}
    return (imported & forbidden) | named | (spoken & {"Engine", "_engine"})


def request_touched(source: str) -> set[str]:
    """Names in ``source`` by which it gets at the request that is being answered."""
    imported = {
        name
        for name in imported_names(source, "webapp")
        if {"request", "request_ctx", "globals", "*"} & set(name.split(".")[1:])
        and not name.startswith(("urllib.", "webapp."))  # webapp.request reads it for others
    }
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr in {"request", "request_ctx", "globals"}
    }
    return imported | {name for name in attributes if tops({name}) & {"flask", "htmx_flask"}}


@each_webapp_module
def test_the_page_never_touches_an_engine(module):
    assert engine_touched(WEBAPP[module]) == set()


@each_webapp_module
def test_only_routes_and_the_request_module_touch_the_request(module):
    if module not in REQUEST_MODULES and not module.startswith("routes."):
        assert request_touched(WEBAPP[module]) == set()


@pytest.mark.parametrize("module", sorted(WITHOUT_FLASK))
def test_views_and_forms_know_no_web_framework(module):
    imported = tops(imported_names(WEBAPP[module], "webapp"))
    assert imported & {"flask", "werkzeug", "jinja2", "htmx_flask"} == set()


def test_the_routes_do_touch_the_request():
    assert request_touched(WEBAPP["request"]) and request_touched(WEBAPP["routes.pages"])


@each_webapp_module
def test_the_page_imports_neither_django_nor_what_only_models_files_need(module):
    imported = tops(imported_names(WEBAPP[module], "webapp"))
    assert imported & {"django", "django_htmx", "tensorflow", "requests", "safetensors"} == set()


@pytest.mark.parametrize(
    "source",
    [
        "from gpt2core.engine.engine import Engine",
        "from gpt2core.engine.engine import Engine as Fast",
        "from gpt2core.engine.engine import PREFILL_CHUNK",
        "from gpt2core import Engine",
        "import gpt2core.engine.engine",
        "import gpt2core",
        "from gpt2core import stream",
        "from gpt2core.generate import stream",
        "from gpt2core.generate import *",
        "from gpt2core.engine.scheduler import Engine",
        "def f(scheduler):\n    return scheduler._engine.step()",
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
        "from gpt2core.engine.sequence import GeneratedToken",
        "from gpt2core.serving import ModelServer",
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
    loaded = modules_loaded_by("import gpt2core.engine.engine, regex")
    assert {"regex", "gpt2core.engine.engine"} <= loaded


def test_importing_the_core_loads_numpy_and_regex_only():
    loaded = tops(modules_loaded_by("import gpt2core"))
    assert loaded == {"gpt2core", "numpy", "regex"}


@pytest.mark.parametrize("module", [name for line in CORE_ORDER[:-1] for name in sorted(line)])
def test_a_module_alone_loads_only_what_stands_below_it(module):
    loaded = modules_loaded_by(BARE_PACKAGE.format(module=module))
    assert f"gpt2core.{module}" in loaded
    core = {name.removeprefix("gpt2core.") for name in loaded if name.startswith("gpt2core.")}
    core -= {module}
    assert {other for other in core if CORE_LEVEL[other] >= CORE_LEVEL[module]} == set()
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


def test_the_page_loads_nothing_that_it_does_not_use():
    loaded = tops(modules_loaded_by("import webapp\nwebapp.create_app()"))
    assert {"webapp", "gpt2core", "flask"} <= loaded
    unused = {"django", "django_htmx", "tensorflow", "requests", "safetensors"}
    assert loaded & (unused | {"prometheus_client"}) == set()  # metrics are off
