"""GET /healthz: whether this worker can generate, and what it is busy with.

For load balancers and for people wondering. 200 when the model is loaded, 503 while it
is not; nothing is computed.
"""

from flask import Blueprint, current_app, jsonify

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz():
    """``{"status": "ok" | "loading" | "failed", "model", "running", "waiting"}``."""
    scheduler = current_app.extensions["scheduler"]
    scheduler.start()
    if scheduler.failure:
        status = "failed"
    else:
        status = "ok" if scheduler.model else "loading"
    answer = {"status": status, "model": scheduler.model_name, **scheduler.load}
    return jsonify(answer), 200 if status == "ok" else 503
