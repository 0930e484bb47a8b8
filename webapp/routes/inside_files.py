"""GET /inside.json, /inside.npz and /inside.csv: the numbers of a view as files."""

import csv
import io
from typing import Any

import numpy as np
from flask import Response, jsonify
from flask.typing import ResponseReturnValue

from gpt2core.inside.document import JsonObject, document
from gpt2core.inside.recording import named_arrays
from webapp.inside.page import inside_blueprint, opened_view
from webapp.inside.view import View

blueprint = inside_blueprint("inside_files")


@blueprint.get("/inside.json")
def as_json() -> ResponseReturnValue:
    """The document that docs/architecture.md describes."""
    return jsonify(document_of(opened_view()))


def document_of(view: View) -> JsonObject:
    encoder = view.model.encoder
    tokens: list[JsonObject] = [
        {"id": t.id, "piece": t.piece, "bytes": t.bytes, "start": t.start, "end": t.end}
        for t in view.labels
    ]
    return document(
        view.recording, view.selection, view.model.name, tokens, encoder.decoder.__getitem__
    )


@blueprint.get("/inside.npz")
def as_npz() -> Response:
    """What the pass kept, and every value of the chosen layer, named as in ``model.py``."""
    view, file = opened_view(), io.BytesIO()
    arrays: dict[str, Any] = {**named_arrays(view.recording, view.block)}
    np.savez(file, **arrays)
    return download(file.getvalue(), "application/octet-stream", "npz")


@blueprint.get("/inside.csv")
def as_csv() -> Response:
    """The chosen head's attention pattern, one row a pair of tokens."""
    view, file = opened_view(), io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["layer", "head", "query", "query_piece", "key", "key_piece", "weight"])
    pattern = view.recording.patterns[view.layer][view.head]  # [n_seq, n_seq]
    for query in view.labels:
        for key in view.labels[: query.at]:
            weight = float(pattern[query.at - 1, key.at - 1])
            row = [view.layer, view.head, query.at, query.piece, key.at, key.piece]
            writer.writerow([*row, f"{weight:.7g}"])
    return download(file.getvalue().encode(), "text/csv", "csv")


def download(body: bytes, mimetype: str, extension: str) -> Response:
    header = f"attachment; filename=glyph-inside.{extension}"
    return Response(body, mimetype=mimetype, headers={"Content-Disposition": header})
