"""What every route shares: the scheduler and the settings of the running app.

``create_app`` attaches them, routes and the page read them here, so the keys under which
Flask keeps them are spelled once.
"""

from typing import cast

from flask import Flask, current_app

from gpt2core.serving import ModelServer
from webapp.config import Settings


def attach(app: Flask, scheduler: ModelServer, settings: Settings) -> None:
    """Make both available to everything that runs in ``app``'s context."""
    app.extensions["scheduler"], app.config["SETTINGS"] = scheduler, settings


def get_scheduler() -> ModelServer:
    """The scheduler of the current app."""
    return cast(ModelServer, current_app.extensions["scheduler"])


def get_settings() -> Settings:
    """The settings of the current app."""
    return cast(Settings, current_app.config["SETTINGS"])
