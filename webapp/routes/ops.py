"""Is this worker able to generate? /healthz for machines, /model for the page.

For load balancers, for people wondering, and for the line on the page that follows a
model's download. Nothing is computed here.
"""

from flask import Blueprint, jsonify, redirect, render_template, request, url_for

from webapp.services import get_scheduler

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz():
    """``{"status": "ok" | "loading" | "failed", "model", "running", "waiting"}``; 503 unless ok."""
    scheduler = get_scheduler()
    scheduler.start()
    if scheduler.failure:
        status = "failed"
    else:
        status = "ok" if scheduler.model else "loading"
    answer = {"status": status, "model": scheduler.label, **scheduler.load}
    return jsonify(answer), 200 if status == "ok" else 503


@blueprint.get("/model")
def model():
    """Which model speaks, or how far it is from being ready; the page asks again and again."""
    scheduler = get_scheduler()
    scheduler.start()
    return render_template("parts/model.html", just_ready=scheduler.model is not None)


@blueprint.post("/model/retry")
def retry():
    """Try again after a failed download."""
    get_scheduler().retry()
    if request.htmx:
        return render_template("parts/model.html")
    return redirect(url_for("pages.index"))
