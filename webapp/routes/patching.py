"""GET /inside/patch: states of another text carried into this one.

A page has the whole grid; for htmx its rows follow as an event stream. Another text that cannot
be compared is refused on the page itself, beside its field, with the tokens of both texts.
"""

from collections.abc import Iterator

from flask import Response
from flask.typing import ResponseReturnValue

from gpt2core.engine.events import Unavailable
from gpt2core.errors import InputError
from webapp.inside.instruments import patching
from webapp.inside.instruments.options import with_options
from webapp.inside.page import inside_blueprint, message, opened_view, show
from webapp.inside.view import View
from webapp.request import query_fields, request_id, response_kind, unix_line_ends
from webapp.streaming import event_stream

blueprint = inside_blueprint("patching")
EXAMPLES = ("The girl was sad because", "The boy was sad because")


@blueprint.get("/inside/patch")
def page() -> ResponseReturnValue:
    """Both texts, the grid, and one cell run."""
    try:
        view, other, pair, chosen = read()
    except InputError as error:
        if error.field != "other" or response_kind() != "page":
            raise  # htmx keeps the view and gets the message alone
        return refused(str(error)), 422
    rows = None
    if pair and response_kind() != "htmx":
        rows = list(patching.grid_rows(pair, chosen))
    return show(
        "inside/instruments/patching.html",
        view,
        other=other,
        pair=pair,
        rows=rows,
        chosen=view.options.get("carry"),
        carried=patching.carried_state(pair, *chosen) if pair and chosen else None,
        pieces=patching.pieces_of(pair) if pair else None,
        marks=patching.marks,
        example=EXAMPLES,
        chooses_layer=False,
        chooses_head=False,
    )


def refused(problem: str) -> str:
    """The page with the message beside the field of the other text."""
    view, other = opened_view(), other_text()
    return show(
        "inside/instruments/patching.html",
        with_options(view, {"other": other}),
        other=other,
        problem=problem,
        labels=patching.other_labels(view, other),
        marks=patching.marks,
        example=EXAMPLES,
        chooses_layer=False,
        chooses_head=False,
    )


def other_text() -> str:
    return unix_line_ends(query_fields().get("other", ""))


def read() -> tuple[View, str, patching.Pair | None, tuple[int, int] | None]:
    """View, other text, both as a pair, and the chosen cell. Raises InputError, Unavailable."""
    values, view, other = query_fields(), opened_view(), other_text()
    if not other:
        return view, other, None, None
    pair = patching.pair(view, other)
    chosen = patching.parse_carry(values.get("carry"), pair)
    carry = f"{chosen[0]}.{chosen[1] + 1}" if chosen else None
    view = with_options(view, {"other": other, "carry": carry})
    return view, other, pair, chosen


@blueprint.get("/inside/patch/rows")
def rows_stream() -> Response:
    """The rows of the grid, each sent when it is computed."""
    view, _, pair, chosen = read()

    def messages() -> Iterator[bytes]:
        try:
            for row in patching.grid_rows(pair, chosen) if pair else ():
                yield message("patch_message", row=row, chosen=view.options.get("carry"))
        except Unavailable as error:
            said = str(error)
            yield message("said", target="inside-patch-said", said=said, reference=request_id())

    return event_stream(messages(), "inside-problem")
