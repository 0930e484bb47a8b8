"""One inside view: a text, its recorded pass, and the chosen token, layer and head.

What every template of the inside views gets. A view knows its own address and that of any
other view of the same text, so links, hidden fields and the link to share agree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from flask import url_for

from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.document import Selection, in_range, select
from gpt2core.inside.heads import head_shares
from gpt2core.inside.recorder import Trace
from gpt2core.inside.recording import Block, Recording
from gpt2core.sampling import most_likely
from gpt2core.store.loader import Model
from webapp.inside.labels import Label, LabelGroup, Piece, group_labels, labels_of, piece_of
from webapp.inside.query import Query, sampling_fields
from webapp.inside.recordings import Recordings
from webapp.inside.window import Window, window_for

MAX_PROMPT = 1_500  # characters of a prompt in an address; a page has some thirty links


@dataclass(frozen=True, eq=False)
class View:
    """``endpoint`` and ``arguments`` name the page, the rest says what it shows.

    ``options`` are fields that only this page has, as they stand in its address.
    """

    endpoint: str
    arguments: Mapping[str, Any]
    model: Model
    query: Query
    recording: Recording
    selection: Selection
    recordings: Recordings
    options: Mapping[str, str] = field(default_factory=dict)

    # The text

    @cached_property
    def _labels_and_text(self) -> tuple[tuple[Label, ...], str]:
        query = self.query
        return labels_of(self.model.encoder, query.prompt, query.ids, query.n_prompt)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The tokens of the text."""
        return self._labels_and_text[0]

    @property
    def text(self) -> str:
        """The prompt and the characters that its kept tokens complete."""
        return self._labels_and_text[1]

    @property
    def groups(self) -> list[LabelGroup]:
        """The tokens, bracketed where they share a character."""
        return group_labels(self.labels, self.text)

    @property
    def chosen(self) -> Label:
        """The token that the view is about."""
        return self.labels[self.position]

    def piece(self, id: int) -> Piece:
        """Any token of the vocabulary as a label."""
        return piece_of(self.model.encoder, int(id))

    def largest(self, values: np.ndarray, n: int, without: int | None = None) -> list[int]:
        """Ids of the tokens with the ``n`` largest of ``values [n_vocab]``, largest first.

        Rows of the vocabulary that are no token do not count, nor does the id ``without``.
        """
        left = values.copy()  # [n_vocab]
        left[[*self.model.unused_ids, *([] if without is None else [without])]] = -np.inf
        return [int(id) for id in most_likely(left, n) if left[id] > -np.inf]

    # The selection

    @property
    def position(self) -> int:
        """The chosen token's row in arrays, from 0."""
        return self.selection.position

    @property
    def layer(self) -> int:
        return self.selection.layer

    @property
    def head(self) -> int:
        return self.selection.head

    @property
    def token(self) -> int:
        """Id of the token whose logit is explained."""
        return self.selection.token

    @cached_property
    def head_shares(self) -> np.ndarray:
        """Each head's share of the explained logit, or difference: ``[n_layer, n_head]``."""
        direction = logit_direction(self.recording, self.position, self.token, self.query.against)
        return head_shares(self.recording, self.position, direction)

    @cached_property
    def strongest_head(self) -> tuple[int, int]:
        """Layer and head that add most, by magnitude, to the explained logit directly."""
        layer, head = divmod(int(np.abs(self.head_shares).argmax()), self.recording.n_head)
        return layer, head

    @property
    def window(self) -> Window:
        """The tokens that pictures draw."""
        return window_for(self.recording.n_tokens, self.position)

    @cached_property
    def block(self) -> Block:
        """All values of the chosen layer. Raises Unavailable."""
        return self.recordings.replay_block(self.recording, self.layer)

    @cached_property
    def ending(self) -> Trace:
        """All values of the end of the pass. Raises Unavailable."""
        return self.recordings.replay_unembed(self.recording)

    # Addresses

    @property
    def fields(self) -> dict[str, str]:
        """The fields that make this view, without those at their defaults."""
        return self._text_fields | self._chosen_fields | dict(self.options)

    @property
    def _text_fields(self) -> dict[str, str]:
        prompt, kept = self.query.prompt, self.query.kept
        if len(prompt.encode()) > MAX_PROMPT:  # the ids of the same tokens are shorter
            prompt, kept = "", self.query.ids
        fields: dict[str, str] = {}
        if prompt:
            # A hidden field or text area would change these line ends.
            changes = "\r" in prompt or "\x00" in prompt
            fields = {"prompt_json": json.dumps(prompt)} if changes else {"prompt": prompt}
        if kept:
            fields["kept"] = ",".join(map(str, kept))
        if self.query.special_tokens is not None:
            fields["special_tokens"] = str(int(self.query.special_tokens))
        return fields

    @property
    def _chosen_fields(self) -> dict[str, str]:
        query = self.query
        numbers = {
            "at": query.at,
            "layer": query.layer,
            "head": query.head,
            "for": query.token,
            "against": query.against,
        }
        fields = {name: str(n) for name, n in numbers.items() if n is not None}
        return fields | sampling_fields(query.sampling)

    def link(self, endpoint: str | None = None, **changes: Any) -> str:
        """The address of a view of this text; ``changes`` are fields and parts of the address.

        Without ``endpoint`` this page's own. A change to None leaves the field out; the id
        of the explained token is the argument ``for_``.
        """
        named = {name.rstrip("_"): value for name, value in changes.items()}
        arguments = {} if endpoint else dict(self.arguments)
        is_own = endpoint in (None, self.endpoint)
        fields = self.fields if is_own else self._text_fields | self._chosen_fields
        values = fields | arguments | named
        given = {name: value for name, value in values.items() if value is not None}
        return url_for(endpoint or self.endpoint, **given)

    @property
    def way_back(self) -> str:
        """The main page with this text and these settings."""
        fields: dict[str, Any] = self._text_fields | sampling_fields(self.query.sampling)
        return url_for("pages.index", **fields)

    @property
    def path(self) -> str:
        """This page's address without its fields: where forms send them."""
        return url_for(self.endpoint, **self.arguments)


def open_view(
    endpoint: str,
    arguments: Mapping[str, Any],
    model: Model,
    query: Query,
    recordings: Recordings,
    default_layer: int | None = None,
) -> View:
    """The view that ``query`` asks for. Raises InputError and Unavailable.

    ``default_layer`` is the layer where the query has none; None is the last.
    """
    recording = recordings.get(model, query.ids)
    layer = default_layer if query.layer is None else query.layer
    selection = select(recording, query.at, layer, query.head, query.token)
    if query.against is not None:
        in_range("against", "Token id", query.against, 0, recording.n_vocab - 1)
    return View(endpoint, arguments, model, query, recording, selection, recordings)
