"""POST and GET /score: how probable the model finds each token of a text."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from webapp.request import submitted_fields
from webapp.schemas import ScoreBody
from webapp.scoring import scored_document

blueprint = Blueprint("scores", __name__)


@blueprint.post("/score")
def score() -> ResponseReturnValue:
    """The scores as JSON."""
    return jsonify(scored_document(submitted_fields(ScoreBody)))
