"""GET /inside/heads, /lens, /attribution and /sampling: the instruments, their tables as CSV.

Each is a page of the inside views with fields of its own, beside those that choose text,
token, layer and head.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from flask import Response, url_for

from gpt2core.sampling import MAX_SEED
from webapp.formatting import shortest_repr
from webapp.inside.instruments import attribution, lens
from webapp.inside.instruments import sampling as draw
from webapp.inside.instruments.heads import SHOWS, heads
from webapp.inside.instruments.measures import BY_NAME, MEASURES
from webapp.inside.instruments.options import choice, with_options
from webapp.inside.page import (
    SAMPLING_FIELDS,
    TEXT_FIELDS,
    inside_blueprint,
    message,
    opened_view,
    show,
)
from webapp.inside.view import View
from webapp.request import query_fields, response_kind
from webapp.streaming import event_stream

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


# Logit lens


@blueprint.get("/inside/lens")
def lens_page() -> str:
    """The likeliest token by layer and token. For htmx the rows follow as a stream."""
    view, half = lens_view()
    rows = None if response_kind() == "htmx" else list(lens.grid_rows(view, half))
    found = lens.page_of(view, half)
    template = "inside/instruments/lens.html"
    return show(template, view, found=found, rows=rows, half=half, **WITHOUT_HEAD)


@blueprint.get("/inside/lens/rows")
def lens_rows() -> Response:
    """The rows of the grid, each sent when it is computed."""
    view, half = lens_view()

    def messages() -> Iterator[bytes]:
        for row in lens.grid_rows(view, half, at_once=1):
            yield message("lens_message", row=row)

    return event_stream(messages(), "inside-problem")


def lens_view() -> tuple[View, bool]:
    """The view, and whether rows between attention and MLP are drawn."""
    half = choice(query_fields(), "half", ("0", "1")) == "1"
    return with_options(opened_view(), {"half": "1" if half else None}), half


@blueprint.get("/inside/lens.csv")
def lens_csv() -> Response:
    """The grid with half steps, one row a state and token."""
    view = opened_view()
    rows = (
        [
            row.state.label,
            cell.label.at,
            cell.label.piece,
            cell.piece.id,
            cell.piece.piece,
            number(cell.probability),
        ]
        for row in lens.grid_rows(view, half=True, every=True)
        for cell in row.cells
    )
    header = ["state", "at", "piece", "next_id", "next_piece", "probability"]
    return csv_file(view, "lens", header, rows)


@blueprint.get("/inside/lens/ranks.csv")
def ranks_csv() -> Response:
    """Ranks of every token that is likeliest in some state, after the chosen token."""
    view = opened_view()
    rows = (
        [state.label, piece.id, piece.piece, rank, number(probability)]
        for state, piece, rank, probability in lens.every_rank(view)
    )
    return csv_file(view, "ranks", ["state", "id", "piece", "rank", "probability"], rows)


# Sampling


@blueprint.get("/inside/sampling")
def sampling_page() -> str:
    """One draw, from all tokens to one."""
    view = opened_view()
    sampling = view.query.sampling
    is_last = view.position == view.recording.n_tokens - 1
    return show(
        "inside/instruments/sampling.html",
        view,
        found=draw.page_of(view),
        sampling=sampling,
        temperature=shortest_repr(sampling.temperature),
        top_p=shortest_repr(sampling.top_p),
        next_seed=((sampling.seed or 0) + 1) % (MAX_SEED + 1),
        is_last=is_last,
        follows=link_to_generation(view) if is_last else None,
        **WITHOUT_HEAD,
    )


def link_to_generation(view: View) -> str:
    """The main page with this text and these fields, ready to generate."""
    fields = {*SAMPLING_FIELDS, *TEXT_FIELDS}
    given: dict[str, Any] = {name: value for name, value in view.fields.items() if name in fields}
    return url_for("pages.index", **{"seed": view.query.sampling.seed} | given)


@blueprint.get("/inside/sampling.csv")
def sampling_csv() -> Response:
    """Every token that could be drawn, with its log-probability, noise and sum."""
    view = opened_view()
    rows = (
        [piece.id, piece.piece, *map(number, figures), int(is_drawn)]
        for piece, figures, is_drawn in draw.every_token(view)
    )
    figures = ["own_probability", "probability", "log_probability", "noise", "sum"]
    header = ["id", "piece", *figures, "drawn"]
    return csv_file(view, "sampling", header, rows)


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
