"""The page on a Ray cluster: `serve run deploy/ray_serve.yaml`, or one model with
`serve run deploy.ray_serve:app`.

A replica is what a worker of gunicorn is: one app, one model, one scheduler. Replicas come and go
with the number of requests that are being answered. Settings are the same `GPT2_*` variables.
Invariant: a replica is asked only once its model is loaded.
"""

import os
from collections.abc import Callable

import ray
from flask import Flask
from ray import serve

import webapp
from deploy.asgi import StreamingMiddleware
from gpt2core.engine.processors import THREADS_VARIABLE
from gpt2core.settings import Settings

LOADING_SECONDS = 3600  # a download of the largest model takes a while
# Seconds that running streams have to finish when a replica is replaced or not needed any more.
# A full waiting line of 124M's longest texts takes two minutes.
GRACEFUL_TIMEOUT = 120


def replica(create_app: Callable[[], Flask] = webapp.create_app) -> StreamingMiddleware:
    """The app in the process of a replica, its model loaded. Raises RuntimeError without one."""
    n_cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, int(n_cpus))))
    app = create_app()
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(LOADING_SECONDS)
    if model_server.model is None:
        raise RuntimeError(model_server.failure or "the model took too long to load")
    settings: Settings = app.config["SETTINGS"]
    return StreamingMiddleware(app, settings.server_threads, app.config["MAX_CONTENT_LENGTH"])


def application(create_app: Callable[[], Flask] = webapp.create_app) -> serve.Application:
    """The page as an application of Ray Serve, with the settings of the environment."""
    settings = Settings.from_environment()

    def build() -> StreamingMiddleware:
        return replica(create_app)

    page = serve.deployment(
        serve.ingress(build)(),
        name="Page",
        # Beyond it Serve lets requests wait. The app refuses texts before that.
        max_ongoing_requests=settings.server_threads,
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": 4,
            # More replicas when they decode as many texts together as they can.
            "target_ongoing_requests": settings.max_batch,
        },
        # An update starts a new replica before it stops an old one, which needs room for one more.
        max_surge_percent=20,
        graceful_shutdown_timeout_s=GRACEFUL_TIMEOUT,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return page.bind()


app = application()
