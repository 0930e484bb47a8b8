"""Fixtures of the web part: the app in this process, and real servers."""

from contextlib import ExitStack

import pytest
from flask import Flask

from gpt2core.settings import Settings
from tests.helpers.web import PATIENCE, serving
from webapp import create_app


def loaded_app(**settings) -> Flask:
    """An app whose model is there: a request waits only two seconds for one that is loaded."""
    app = create_app(Settings(**settings))
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(PATIENCE)
    assert model_server.model, model_server.failure
    return app


@pytest.fixture(scope="session")
def app():
    """The app with the bundled model, loaded."""
    return loaded_app()


@pytest.fixture
def client(app):
    """A client of the app without a socket."""
    return app.test_client()


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """``servers(name, **settings)``: a server that lives until the tests end."""
    started = {}
    with ExitStack() as stack:

        def server(name, **settings):
            if name not in started:
                log = tmp_path_factory.mktemp(name) / "gunicorn.log"
                started[name] = stack.enter_context(serving(log, **settings))
            started[name].wait_for_load(0)
            return started[name]

        yield server


@pytest.fixture
def server(servers):
    """The page as ``make run`` serves it, nothing running."""
    return servers("demo")


@pytest.fixture
def slow_server(servers):
    """The page with a model controlled by the prompt (see paced.py), 30 ms a token at least."""
    return servers("slow", app="tests.helpers.paced:create_app()", TEST_PACE=0.03)


@pytest.fixture
def own_server(tmp_path):
    """``own_server(**settings)``: a context manager, for tests that change or end a server."""
    return lambda **settings: serving(tmp_path / "gunicorn.log", **settings)
