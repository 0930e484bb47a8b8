"""GET /inside.json, /inside.npz and /inside.csv: the numbers of a view as files."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from flask import Response, jsonify
from flask.typing import ResponseReturnValue

from gpt2core.errors import InputError
from gpt2core.inside.document import JsonObject, document
from gpt2core.inside.recording import named_arrays
from webapp.inside.page import inside_blueprint, opened_view
from webapp.inside.view import View
from webapp.request import query_fields

blueprint = inside_blueprint("inside_files")
Row = list[str | int | float]


@blueprint.get("/inside.json")
def as_json() -> ResponseReturnValue:
    """The document that docs/inside.md describes."""
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
    return download(file.getvalue(), "application/octet-stream", "inside.npz")


@blueprint.get("/inside.csv")
def as_csv() -> Response:
    """A table of the document: ``table=attention`` (the default), ``lens`` or ``attribution``."""
    name = query_fields().get("table") or "attention"
    if name not in TABLES:
        raise InputError(f"There is no table {name[:40]!r}; there are {', '.join(TABLES)}.")
    file = io.StringIO()
    csv.writer(file).writerows(TABLES[name](document_of(opened_view())))
    return download(file.getvalue().encode(), "text/csv", f"{name}.csv")


def attention_rows(found: JsonObject) -> Iterator[Row]:
    """One row for each pair of tokens of which the first sees the second."""
    layer, head = found["attention"]["layer"], found["attention"]["head"]
    yield ["layer", "head", "query", "query_piece", "key", "key_piece", "weight"]
    for query, weights in zip(found["tokens"], found["attention"]["rows"], strict=True):
        for key, weight in zip(found["tokens"], weights, strict=False):
            pair = [query["index"], query["piece"], key["index"], key["piece"]]
            yield [layer, head, *pair, weight]


def lens_rows(found: JsonObject) -> Iterator[Row]:
    """The ten likeliest tokens before each layer and at the end."""
    yield ["layer", "rank", "id", "piece", "probability"]
    for entry in found["lens"]:
        for rank, top in enumerate(entry["top"], start=1):
            yield [entry["layer"], rank, top["id"], top["piece"], top["probability"]]


def attribution_rows(found: JsonObject) -> Iterator[Row]:
    """The share of each part in the logit of one token."""
    yield ["for", "piece", "part", "value"]
    target = found["attribution"]
    for part in target["parts"]:
        yield [target["for"], target["piece"], part["part"], part["value"]]


TABLES: dict[str, Callable[[JsonObject], Iterator[Row]]] = {
    "attention": attention_rows,
    "lens": lens_rows,
    "attribution": attribution_rows,
}


def download(body: bytes, mimetype: str, name: str) -> Response:
    header = f"attachment; filename=glyph-{name}"
    return Response(body, mimetype=mimetype, headers={"Content-Disposition": header})
