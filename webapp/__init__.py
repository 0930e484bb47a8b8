"""The web page: :func:`create_app` puts its parts together.

First stop of a prompt's journey: gunicorn (or ``flask --app webapp run``) calls
``create_app`` and the routes of ``pages``, ``generation``, ``bpe``, ``downloads`` and
``ops`` answer. The scheduler is the app's only mutable state.
"""

from flask import Flask
from htmx_flask import Htmx

from gpt2core.serving import ModelServer
from webapp import error_handlers, services, snippets
from webapp.assets import asset
from webapp.routes import bpe, export, ops, pages, stream

# Everything comes from this server, scripts and styles as files: nothing inline runs.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
BYTES_A_CHAR = 12  # the most a character takes in a form: four bytes, each as %XX


def create_app(config: Settings | None = None) -> Flask:
    """The Flask app, with ``config`` or the settings of the environment.

    Raises SettingError for a variable that cannot be used.
    """
    settings = config or Settings.from_environment()
    app = Flask(__name__, template_folder=asset("templates"), static_folder=asset("static"))
    app.config["MAX_CONTENT_LENGTH"] = settings.max_chars * BYTES_A_CHAR + 10_000
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.json.sort_keys = False
    app.json.ensure_ascii = False  # Ġ is meant to be read
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    Htmx(app)
    scheduler = ModelServer(
        settings.model, settings.models_dir, settings.max_batch, settings.max_queue
    )
    services.attach(app, scheduler, settings)
    for module in (pages, stream, bpe, export, ops):
        app.register_blueprint(module.blueprint)
    error_handlers.register(app)

    app.jinja_env.globals.update(
        htmx_version=pages.HTMX_VERSION,
        as_curl=snippets.as_curl,
        as_command=snippets.as_command,
        as_python=snippets.as_python,
        max_link=snippets.MAX_LINK,
    )

    @app.context_processor
    def common():
        return {"scheduler": scheduler}

    @app.after_request
    def secure(response):
        response.headers.update(SECURITY_HEADERS)
        # One address answers in several forms, so a cache must tell them apart.
        response.vary.update(["Accept", "HX-Request"])
        return response

    return app
