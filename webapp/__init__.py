"""The web page: :func:`create_app` puts its parts together.

gunicorn (or ``flask --app webapp run``) calls ``create_app``; requests are answered by the
modules in ``routes``. The model server and the recorded passes of the inside views are
the app's only mutable state.
"""

from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider
from flask_compress import Compress
from htmx_flask import Htmx
from werkzeug.exceptions import Forbidden

from gpt2core.engine.observer import IGNORE, Observer
from gpt2core.serving import ModelServer, label_of
from gpt2core.settings import Settings
from webapp import error_handlers, forms, links, services, snippets, templating
from webapp.assets import asset
from webapp.limits import limit_rate
from webapp.proxies import trust_proxies
from webapp.request import is_from_another_site, name_route, request_id
from webapp.request_log import Ended, RequestLog, write_line
from webapp.routes import (
    ablation,
    api,
    bpe,
    compare,
    export,
    gallery,
    inside_files,
    inside_pages,
    instruments,
    neurons,
    openai,
    ops,
    pages,
    patching,
    reading,
    scores,
    stream,
)
from webapp.static_files import serve_static_files

# Scripts and styles are files of this server; browsers run nothing inline.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
# Text is compressed, streams are not: a message must not wait in a compressor.
COMPRESSION = {
    "COMPRESS_ALGORITHM": ["br", "gzip"],
    "COMPRESS_STREAMS": False,
    "COMPRESS_LEVEL": 9,
    "COMPRESS_BR_LEVEL": 5,
    "COMPRESS_MIMETYPES": [
        *("text/html", "text/css", "text/csv", "text/plain", "text/javascript"),
        *("application/json", "image/svg+xml"),
    ],
}
ROUTES = (
    *(pages, stream, bpe, scores, inside_pages, inside_files, instruments, export, ops),
    *(neurons, ablation, patching, reading, api, openai, gallery, compare),
)
MAX_BYTES_PER_CHAR = 12  # of a form: four bytes of UTF-8, each as %XX
OTHER_FIELDS_BYTES = 10_000  # room for the fields beside the text


def create_app(config: Settings | None = None) -> Flask:
    """The Flask app, with ``config`` or the settings of the environment.

    Raises SettingError for an invalid variable.
    """
    settings = config or Settings.from_environment()
    app = Flask(__name__, template_folder=asset("templates"), static_folder=None)
    max_bytes = settings.max_chars * MAX_BYTES_PER_CHAR + OTHER_FIELDS_BYTES
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = max_bytes
    json = DefaultJSONProvider(app)
    json.sort_keys, json.ensure_ascii = False, False  # JSON shows Ġ, not \u0120
    app.json = json
    Htmx(app)
    app.config.update(COMPRESSION)
    Compress(app)
    app.before_request(name_route)
    ended: list[Ended] = [write_line]
    model_server = make_model_server(settings, measure(app, settings, ended))
    services.attach(app, model_server, settings)
    for module in ROUTES:
        app.register_blueprint(module.blueprint)
    serve_static_files(app, asset("static"))
    error_handlers.register(app)
    limit_rate(app, settings)
    trust_proxies(app, settings.trusted_proxies)
    trusts_ids = settings.trusted_proxies > 0
    app.wsgi_app = RequestLog(app.wsgi_app, trusts_ids, ended)  # type: ignore[method-assign]
    add_template_names(app, model_server)

    @app.after_request
    def secure(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        # One address answers in several forms; caches must keep them apart.
        response.vary.update(["Accept", "Accept-Encoding", "HX-Request"])
        return response

    @app.before_request
    def refuse_other_sites() -> None:
        if is_from_another_site():
            raise Forbidden("A page of another site made this request; only links may lead here.")

    return app


def make_model_server(settings: Settings, observer: Observer) -> ModelServer:
    """The model server that the settings describe, not started."""
    return ModelServer(
        settings.model,
        settings.models_dir,
        settings.max_batch,
        settings.max_queue,
        settings.weights,
        settings.places_of_a_client,
        observer,
    )


def measure(app: Flask, settings: Settings, ended: list[Ended]) -> Observer:
    """Add GET /metrics and what counts requests, if metrics are on. Returns what counts texts."""
    if not settings.metrics:
        return IGNORE
    # Imported here, because it decides on import where it counts; see webapp.metrics.
    from webapp.metrics import Metrics
    from webapp.routes import metrics

    app.extensions["metrics"] = counts = Metrics(
        label_of(settings.model), settings.weights, settings.max_batch
    )
    ended.append(counts.answered)
    app.register_blueprint(metrics.blueprint)
    return counts


def add_template_names(app: Flask, model_server: ModelServer) -> None:
    """What the page's templates can use besides what ``templating`` gives to all."""
    templating.configure(app.jinja_env)
    app.jinja_env.globals.update(
        model_server=model_server,
        request_id=request_id,
        htmx_version=pages.HTMX_VERSION,
        labels=forms.LABELS,
        visible_fields=forms.VISIBLE_FIELDS,
        as_curl=snippets.as_curl,
        as_command=snippets.as_command,
        as_python=snippets.as_python,
        short_link=links.short_link,
        max_link=links.MAX_LINK,
    )
