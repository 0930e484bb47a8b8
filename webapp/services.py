"""What every route shares: model server, settings and recordings of the running app.

``create_app`` attaches them; routes and the page get them here, so no route spells the keys
under which Flask keeps them.
"""

from typing import cast

from flask import Flask, current_app

from gpt2core.serving import ModelServer
from gpt2core.settings import Settings
from webapp.inside.readings import Readings
from webapp.inside.recordings import Recordings


def attach(app: Flask, model_server: ModelServer, settings: Settings) -> None:
    """Make them available to everything that runs in ``app``'s context."""
    app.extensions["model_server"], app.config["SETTINGS"] = model_server, settings
    app.extensions["recordings"] = recordings = Recordings(
        is_generating=lambda: model_server.load["running"] > 0
    )
    app.extensions["readings"] = Readings(recordings)


def get_model_server() -> ModelServer:
    """The model server of the current app."""
    return cast(ModelServer, current_app.extensions["model_server"])


def get_settings() -> Settings:
    """The settings of the current app."""
    return cast(Settings, current_app.config["SETTINGS"])


def get_recordings() -> Recordings:
    """The recorded passes of the current app."""
    return cast(Recordings, current_app.extensions["recordings"])


def get_readings() -> Readings:
    """The guided reading of the current app's model."""
    return cast(Readings, current_app.extensions["readings"])
