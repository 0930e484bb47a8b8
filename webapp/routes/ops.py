"""Whether this worker can generate: GET /healthz for machines, /model for the page.

Load balancers read /healthz. The page polls /model while a model is downloaded, to show its
progress. Nothing is computed here.
"""

from flask import Blueprint, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from webapp.request import response_kind
from webapp.services import get_model_server

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """``{"status": "ok" | "loading" | "failed", "model", "weights", …}``; 503 unless ok."""
    model_server = get_model_server()
    model_server.start()
    if model_server.failure:
        status = "failed"
    else:
        status = "ok" if model_server.model else "loading"
    facts = {"model": model_server.label, "weights": model_server.precision}
    answer = {"status": status, **facts, **model_server.load}
    return jsonify(answer), 200 if status == "ok" else 503


@blueprint.get("/model")
def model() -> ResponseReturnValue:
    """Which model is served, or the progress of loading it; the page polls this."""
    model_server = get_model_server()
    model_server.start()
    return render_template("parts/model.html", just_ready=model_server.model is not None)


@blueprint.post("/model/retry")
def retry() -> ResponseReturnValue:
    """Try again after a failed download."""
    get_model_server().retry()
    if response_kind() == "htmx":
        return render_template("parts/model.html")
    return redirect(url_for("pages.index"))
