"""GET /inside/heads and /attribution: the instruments, their tables as CSV.

Each is a page of the inside views with fields of its own, beside those that choose text,
token, layer and head.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flask import Response

from webapp.inside.instruments import attribution
from webapp.inside.instruments.heads import SHOWS, heads
from webapp.inside.instruments.measures import BY_NAME, MEASURES
from webapp.inside.instruments.options import choice, with_options
from webapp.inside.page import inside_blueprint, opened_view, show
from webapp.inside.view import View
from webapp.request import query_fields

blueprint = inside_blueprint("instruments")
WITHOUT_HEAD = {"chooses_layer": False, "chooses_head": False}  # layer and head make no difference


# Heads


@blueprint.get("/inside/heads")
def heads_page() -> str:
    """All heads by one measure; one layer's heads; one head."""
    values, view = query_fields(), opened_view()
    measure = BY_NAME[choice(values, "measure", tuple(BY_NAME))]
    shown = choice(values, "show", SHOWS)
    view = with_options(
        view,
        {
            "measure": None if measure == MEASURES[0] else measure.name,
            "show": None if shown == SHOWS[0] else shown,
            "key": None if view.query.key is None else str(view.query.key),
        },
    )
    found = heads(view, measure, shown)
    return show("inside/instruments/heads.html", view, found=found, measures=MEASURES, shows=SHOWS)


@blueprint.get("/inside/heads.csv")
def heads_csv() -> Response:
    """Every measure of every head, for the chosen token."""
    view = opened_view()
    tables = [measure.values(view) for measure in MEASURES]  # [n_layer, n_head] each
    n_layer, n_head = tables[0].shape
    rows = (
        [layer, head, *(number(table[layer, head]) for table in tables)]
        for layer in range(n_layer)
        for head in range(n_head)
    )
    header = ["layer", "head", *(measure.name for measure in MEASURES)]
    return csv_file(view, "heads", header, rows)


# Attribution


@blueprint.get("/inside/attribution")
def attribution_page() -> str:
    """One logit as a sum, opened down to source tokens or neurons."""
    view = opened_view()
    opened = attribution.parse_part(query_fields().get("part"), view)
    view = with_options(view, {"part": opened.name if opened else None})
    found = attribution.page_of(view, opened)
    return show("inside/instruments/attribution.html", view, found=found, **WITHOUT_HEAD)


@blueprint.get("/inside/attribution.csv")
def attribution_csv() -> Response:
    """The shares of all parts and all heads, and what is opened, whole."""
    view = opened_view()
    opened = attribution.parse_part(query_fields().get("part"), view)
    rows = ([name, number(value)] for name, value in attribution.all_shares(view, opened))
    return csv_file(view, "attribution", ["part", "share"], rows)


# Files


def number(value: float | np.floating) -> str:
    """7 significant digits; nothing where the value is not defined."""
    return "" if np.isnan(value) else f"{float(value):.7g}"


def csv_file(
    view: View, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Response:
    """A table as a file to save, named after the instrument and the chosen token."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
    disposition = f"attachment; filename=glyph-{name}-{view.selection.at}.csv"
    return Response(
        file.getvalue().encode(), mimetype="text/csv", headers={"Content-Disposition": disposition}
    )
