"""GET /metrics: what Prometheus reads. It answers while the model is being prepared.

Only a client on this machine or on a private network gets an answer, and none that comes through
a proxy: figures about users are no strangers' business.
"""

from flask import Blueprint, Response, abort, current_app
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST

from webapp.request import is_on_this_network

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """All metrics of all processes of this server; 404 for strangers."""
    if not is_on_this_network():
        abort(404)
    text = current_app.extensions["metrics"].text()
    return Response(text, content_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})
