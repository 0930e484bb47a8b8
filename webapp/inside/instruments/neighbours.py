"""Neighbours: the tokens whose embeddings point most nearly the same way as a vector.

One list is of a token's own embedding, the other of the residual stream at the chosen token
before one layer, or after the last. Nearness is the cosine with each row of ``wte``.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.vocabulary import cosines
from webapp.inside.labels import Piece
from webapp.inside.view import View

N_NEIGHBOURS = 12


@dataclass(frozen=True)
class Neighbour:
    piece: Piece
    cosine: float


@dataclass(frozen=True)
class NeighboursPage:
    """``of_token`` are the neighbours of ``token``, without itself; ``of_state`` the state's."""

    token: Piece
    of_token: tuple[Neighbour, ...]
    of_state: tuple[Neighbour, ...]


def page_of(view: View, id: int, n_layers: int) -> NeighboursPage:
    """Neighbours of the token ``id``, and of the stream after ``n_layers`` layers."""
    wte = view.recording.params["wte"]
    state = view.recording.residual[n_layers][view.position]  # [n_embd]
    return NeighboursPage(view.piece(id), nearest(view, wte[id], without=id), nearest(view, state))


def nearest(view: View, vector: np.ndarray, without: int | None = None) -> tuple[Neighbour, ...]:
    """The tokens of the tokenizer nearest to ``vector [n_embd]``, but not ``without``."""
    found = cosines(vector, view.recording.params["wte"])  # [n_vocab]
    ids = view.largest(found, N_NEIGHBOURS, without)
    return tuple(Neighbour(view.piece(id), float(found[id])) for id in ids)
