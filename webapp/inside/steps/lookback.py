"""The end of the walk: what moved the answer, and where the heads that moved it looked.

Shares are those of direct logit attribution, for the logit of the drawn token.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.attribution import attribution, logit_direction
from gpt2core.inside.heads import head_shares
from webapp.inside.instruments.attribution import part_label
from webapp.inside.labels import Label
from webapp.inside.view import View

N_PARTS = 3
N_HEADS = 3


@dataclass(frozen=True)
class PartShare:
    """A part of the model and what it adds to the logit."""

    label: str
    value: float


@dataclass(frozen=True)
class HeadShare:
    """A head, what it adds to the logit, and the token with its largest weight."""

    layer: int
    head: int
    value: float
    looks_at: Label
    weight: float


@dataclass(frozen=True)
class Lookback:
    """The largest shares by magnitude, largest first, of ``logit``."""

    logit: float
    parts: tuple[PartShare, ...]
    heads: tuple[HeadShare, ...]


def look_back(view: View, token: int) -> Lookback:
    """What moved the logit of ``token`` after the chosen token."""
    recording, position = view.recording, view.position
    found = attribution(recording, position, token)
    parts = sorted(found.parts, key=lambda part: -abs(part.value))[:N_PARTS]
    shares = head_shares(recording, position, logit_direction(recording, position, token))
    order = np.argsort(-np.abs(shares), axis=None, kind="stable")[:N_HEADS]
    cells = [divmod(int(index), recording.n_head) for index in order]
    return Lookback(
        found.logit,
        tuple(PartShare(part_label(part.name), part.value) for part in parts),
        tuple(head_share(view, layer, head, float(shares[layer, head])) for layer, head in cells),
    )


def head_share(view: View, layer: int, head: int, value: float) -> HeadShare:
    row = view.recording.patterns[layer][head, view.position]  # [n_seq]
    key = int(row.argmax())
    return HeadShare(layer, head, value, view.labels[key], float(row[key]))
