"""The JSON document of ``/inside.json`` and ``python -m gpt2core inside --json``.

A pure function of a recording and a selection. It does not import the tokenizer: the caller
passes the tokens' JSON objects and a function that spells an id, so this package runs on ids
and arrays only and its tests need no vocabulary.

Invariants: every number comes from the recording, rounded to 7 significant digits (float32
has 7 to 8). The last entry of ``lens`` equals ``top``. ``parts`` add up to ``logit``. ``at``
and ``index`` count from 1, layers and heads from 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2core.errors import InputError
from gpt2core.inside.attribution import attribution
from gpt2core.inside.interventions import Ablation, Place
from gpt2core.inside.lens import lens, ranks
from gpt2core.inside.recording import Recording
from gpt2core.sampling import N_CANDIDATES, is_whole, log_softmax, most_likely

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """The token ``at`` (from 1), ``layer`` and ``head`` (from 0) that a view shows.

    ``token`` is the id whose logit is explained.
    """

    at: int
    layer: int
    head: int
    token: int

    @property
    def position(self) -> int:
        """``at`` as an index of arrays, from 0."""
        return self.at - 1


def select(
    recording: Recording,
    at: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    token: int | None = None,
) -> Selection:
    """A valid selection. Defaults: the last token, the last layer, head 0, the likeliest id.

    Raises InputError for the field ``at``, ``layer``, ``head`` or ``for``.
    """
    n_tokens, n_layer, n_head = recording.n_tokens, recording.n_layer, recording.n_head
    at = n_tokens if at is None else in_range("at", "Token", at, 1, n_tokens)
    layer = n_layer - 1 if layer is None else in_range("layer", "Layer", layer, 0, n_layer - 1)
    head = 0 if head is None else in_range("head", "Head", head, 0, n_head - 1)
    if token is None:
        token = int(recording.logits(at - 1).argmax())
    else:
        token = in_range("for", "Token id", token, 0, recording.n_vocab - 1)
    return Selection(at, layer, head, token)


def in_range(field: str, label: str, value: int, first: int, last: int) -> int:
    """``value`` if it is a whole number from ``first`` to ``last``. Raises InputError."""
    if not (is_whole(value) and first <= value <= last):
        raise InputError(
            f"{label} is {value}; it must be a whole number from {first} to {last}.",
            field,
            minimum=first,
            maximum=last,
        )
    return value


def document(
    recording: Recording,
    selection: Selection,
    model: str,
    tokens: list[JsonObject],
    piece: Callable[[int], str],
) -> JsonObject:
    """The whole document.

    ``model`` is the model's name. ``tokens`` has an object with ``id``, ``piece``, ``bytes``,
    ``start`` and ``end`` for each token of the recording, as in the answer of ``/tokenize``;
    ``index`` is added here. ``piece`` returns the spelling of an id in the byte alphabet.
    """
    logits = lens(recording, selection.position)  # [n_layer + 1, n_vocab]
    pattern = recording.patterns[selection.layer][selection.head]  # [n_seq, n_seq]
    return {
        "model": model,
        "n_layer": recording.n_layer,
        "n_head": recording.n_head,
        "tokens": [{"index": i} | token for i, token in enumerate(tokens, start=1)],
        "at": selection.at,
        "top": top_tokens(logits[-1], piece),
        "lens": lens_entries(logits, selection.token, piece),
        "attribution": attribution_entry(recording, selection, piece),
        "attention": {
            "layer": selection.layer,
            "head": selection.head,
            "rows": [[rounded(w) for w in row[: i + 1]] for i, row in enumerate(pattern)],
        },
    }


def top_tokens(logits: np.ndarray, piece: Callable[[int], str]) -> list[JsonObject]:
    """The ten likeliest tokens of ``logits [n_vocab]``, likeliest first."""
    probabilities = np.exp(log_softmax(logits))  # [n_vocab]
    return [
        {
            "id": int(token_id),
            "piece": piece(int(token_id)),
            "logit": rounded(logits[token_id]),
            "probability": rounded(probabilities[token_id]),
        }
        for token_id in most_likely(logits, N_CANDIDATES)
    ]


def lens_entries(logits: np.ndarray, token: int, piece: Callable[[int], str]) -> list[JsonObject]:
    """An entry for each row of ``logits [n_layer + 1, n_vocab]``.

    ``rank`` and ``probability`` are those of ``token`` in that row.
    """
    rank_of_token = ranks(logits, [token])[:, 0]  # [n_layer + 1]
    entries = []
    for layer, row in enumerate(logits):
        top = [
            {name: entry[name] for name in ("id", "piece", "probability")}
            for entry in top_tokens(row, piece)
        ]
        probability = rounded(np.exp(log_softmax(row)[token]))
        entries.append(
            {
                "layer": layer,
                "top": top,
                "rank": int(rank_of_token[layer]),
                "probability": probability,
            }
        )
    return entries


def attribution_entry(
    recording: Recording, selection: Selection, piece: Callable[[int], str]
) -> JsonObject:
    """The logit of the selected token as a sum of parts."""
    found = attribution(recording, selection.position, selection.token)
    parts = [{"part": part.name, "value": rounded(part.value)} for part in found.parts]
    return {
        "for": selection.token,
        "piece": piece(selection.token),
        "logit": rounded(found.logit),
        "parts": parts,
    }


def rounded(number: float) -> float:
    """``number`` rounded to 7 significant digits."""
    return float(f"{number:.7g}")


def ablation_document(
    ablation: Ablation,
    token: int,
    model: str,
    tokens: list[JsonObject],
    piece: Callable[[int], str],
) -> JsonObject:
    """An ablation: ``token`` and the likeliest tokens, before and after.

    The arguments are those of :func:`document`.
    """
    ids = list(dict.fromkeys([token, *ablation.leaders(N_CANDIDATES)]))
    chosen, *_ = rows = [
        {
            "id": row.id,
            "piece": piece(row.id),
            "before": place_entry(row.before),
            "after": place_entry(row.after),
        }
        for row in ablation.comparison(ids)
    ]
    return {
        "model": model,
        "tokens": [{"index": i} | token for i, token in enumerate(tokens, start=1)],
        "at": ablation.position + 1,
        "ablated": [component.name for component in ablation.components],
        "to": ablation.replacement,
        "n_changed": ablation.n_changed,
        "n_vocab": len(ablation.before),
        "for": chosen,
        "candidates": [row for row in rows if row["id"] in ablation.leaders(N_CANDIDATES)],
    }


def place_entry(place: Place) -> JsonObject:
    return {
        "logit": rounded(place.logit),
        "probability": rounded(place.probability),
        "rank": place.rank,
    }
