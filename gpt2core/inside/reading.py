"""The guided reading: searches a model for four findings, by its passes over prepared texts.

A head that attends to the previous token, a head that copies after a repeated phrase, an
answer that settles in the middle layers, and a head whose removal changes the next token.

Invariants: a search depends on ids and weights alone, never on the clock. Of a large model
fewer heads are removed, so that a search ends within half a minute.

Sources: Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021), and Olsson
et al., "In-context Learning and Induction Heads" (2022), for the heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from gpt2core.errors import InputError
from gpt2core.inside.attribution import logit_direction
from gpt2core.inside.findings import CopyingHead, Habit, PreviousHead, Reading, Removal, Settling
from gpt2core.inside.heads import head_shares
from gpt2core.inside.interventions import Ablation, Component, ablate
from gpt2core.inside.lens import lens, lens_grid, ranks
from gpt2core.inside.recording import MAX_TOKENS, Recording, early_logits, record_pass
from gpt2core.model import Params
from gpt2core.sampling import log_softmax, most_likely

# Short texts with a likely next word, and last one phrase twice.
TEXTS = (
    "The cat sat on the mat because it was",
    "The sun was hot, so they went to swim in the",
    "Lily was thirsty, so her mom gave her a glass of",
    "The bird could not fly because its",
    "Mary and John went to the shop. John gave a drink to",
    "The dog ran after the cat, and the cat ran up a",
    "The red frog ate a blue hat. The red frog ate a blue",
)
REPEATED = len(TEXTS) - 1  # the text whose phrase is repeated
N_LAST = 3  # last tokens of each text whose answers are looked at
MAX_REMOVED = 40  # heads that are removed
MAX_WEIGHTS = 15 * 10**9  # weights of all passes in which a head is removed
T = TypeVar("T")


class InTurn(Protocol):
    """Calls a function and returns its result, perhaps after a while."""

    def __call__(self, compute: Callable[[], T], /) -> T: ...


def at_once(compute: Callable[[], T], /) -> T:
    return compute()


def search(
    texts: Sequence[Sequence[int]], params: Params, n_head: int, in_turn: InTurn = at_once
) -> Reading:
    """Search the model's heads and layers. ``texts`` are the ids of ``TEXTS``.

    ``in_turn`` runs each pass: a server computes other things between two of them. Raises
    InputError if a text does not fit into the model's context.
    """
    limit = min(MAX_TOKENS, len(params["wpe"]))
    if max(map(len, texts)) > limit:
        raise InputError(
            f"The guided reading needs a context of {max(map(len, texts))} tokens; this model's "
            f"holds {limit}.",
            "prompt",
        )

    def record(ids: Sequence[int]) -> Recording:
        return in_turn(lambda: record_pass(ids, params, n_head))

    recordings = [record(ids) for ids in texts]
    return Reading(
        previous_head(recordings),
        copying_head(recordings[REPEATED]),
        settling(recordings, in_turn),
        removal(recordings, in_turn),
    )


# Heads


@dataclass(frozen=True, eq=False)
class Attention:
    """How all heads attend from some tokens of a text to one other token each.

    ``weights [n_layer, n_head, n]`` are the attention weights, ``even [n]`` those of a head that
    attends to all tokens alike. ``most [n_layer, n_head, n]`` is True where a head attends to no
    token more.
    """

    weights: np.ndarray
    even: np.ndarray
    most: np.ndarray


def attention(recording: Recording, queries: np.ndarray, keys: np.ndarray) -> Attention:
    """Attention from each of the positions ``queries [n]`` to the one beside it in ``keys``."""
    rows = np.stack(recording.patterns)[:, :, queries]  # [n_layer, n_head, n, n_seq]
    weights = rows[:, :, np.arange(len(keys)), keys]  # [n_layer, n_head, n]
    return Attention(weights, 1 / (queries + 1.0), rows.argmax(axis=-1) == keys)


def best_head(found: Sequence[Attention]) -> tuple[int, int, Habit]:
    """The layer and head that attends most to the keys of ``found``, for the most queries.

    Among heads with as many, the one with the larger weights.
    """
    most = np.concatenate([one.most for one in found], axis=-1).sum(axis=-1)  # [n_layer, n_head]
    weights = np.concatenate([one.weights for one in found], axis=-1)  # [n_layer, n_head, n]
    means = weights.mean(axis=-1)  # [n_layer, n_head]
    layer, head = np.unravel_index(np.lexsort((means.ravel(), most.ravel()))[-1], most.shape)
    even = np.concatenate([one.even for one in found])  # [n]
    here = (layer, head)
    habit = Habit(int(most[here]), len(even), float(means[here]), float(even.mean()))
    return int(layer), int(head), habit


def previous_head(recordings: Sequence[Recording]) -> PreviousHead:
    start = 2  # earlier tokens have only two to choose from
    found = [
        attention(recording, queries, queries - 1)
        for recording in recordings
        for queries in [np.arange(start, recording.n_tokens)]
    ]
    layer, head, habit = best_head(found)
    shown = 5  # the first token that may be shown, so that there is much to choose from
    rows = [one.weights[layer, head, shown - start :] for one in found]  # [n_seq - shown] each
    text = int(np.argmax([row.max(initial=0) for row in rows]))
    position = shown + int(rows[text].argmax())
    return PreviousHead(
        text, position, layer, head, habit, weights_of(recordings[text], layer, head, position)
    )


def copying_head(recording: Recording) -> CopyingHead:
    ids = recording.ids
    # The phrase's tokens, the second time and the first, and what followed the first time.
    again = np.array([i for i, token in enumerate(ids) if token in ids[:i]])
    earlier = np.array([ids.index(ids[i]) for i in again])
    followed = [ids[i + 1] for i in earlier]
    found = attention(recording, again, earlier + 1)
    layer, head, habit = best_head([found])
    first, second = (probabilities(recording, places, followed) for places in (earlier, again))
    return CopyingHead(
        REPEATED,
        int(again[-1]),
        layer,
        head,
        habit,
        row=weights_of(recording, layer, head, int(again[-1])),
        followed=int(earlier[-1]) + 1,
        token=followed[-1],
        first=float(first.mean()),
        second=float(second.mean()),
    )


def weights_of(recording: Recording, layer: int, head: int, position: int) -> tuple[float, ...]:
    """The attention weights of one token, on itself and all before it."""
    return tuple(map(float, recording.patterns[layer][head, position, : position + 1]))


def probabilities(recording: Recording, positions: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """The probability of each of ``ids`` after the position beside it: ``[len(ids)]``."""
    logits = early_logits(recording.residual[-1][positions], recording.params)
    logprobs = [log_softmax(row)[token] for row, token in zip(logits, ids, strict=True)]
    found: np.ndarray = np.exp(logprobs)
    return found


# Layers


def settling(recordings: Sequence[Recording], in_turn: InTurn) -> Settling:
    candidates = []  # (distance from the middle third, -probability, text, position, n_layers)
    n_layer = recordings[0].n_layer
    for text, recording in enumerate(recordings):
        positions = range(max(0, recording.n_tokens - N_LAST), recording.n_tokens)
        grid = in_turn(lambda r=recording, p=positions: lens_grid(r, p))  # type: ignore[misc]
        for column, position in enumerate(positions):
            n_layers = settled(grid.ids[:, column])
            probability = float(grid.probabilities[n_layers, column])
            distance = outside_middle(n_layers, n_layer)
            candidates.append((distance, -probability, text, position, n_layers))
    distance, _, text, position, n_layers = min(candidates)
    logits = lens(recordings[text], position)  # [n_layer + 1, n_vocab]
    token = int(logits[-1].argmax())
    there, end = (float(np.exp(log_softmax(logits[i])[token])) for i in (n_layers, -1))
    rank = int(ranks(logits[:1], [token])[0, 0])
    path = tuple(map(int, logits.argmax(axis=-1)))
    return Settling(
        text, position, n_layers, path, rank, there, end, len(candidates), distance == 0
    )


def settled(ids: np.ndarray) -> int:
    """The first state from which on all of ``ids [n_layer + 1]`` are the last."""
    others = np.flatnonzero(ids != ids[-1])
    return int(others[-1]) + 1 if others.size else 0


def outside_middle(n_layers: int, n_layer: int) -> float:
    """How many layers ``n_layers`` is from the middle third of ``n_layer``; 0 inside."""
    return max(0.0, n_layer / 3 - n_layers, n_layers - 2 * n_layer / 3)


# Removal


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head of a recording; ``left`` is the answer's lead without the head's direct share."""

    text: int
    layer: int
    head: int
    left: float


def removal(recordings: Sequence[Recording], in_turn: InTurn) -> Removal:
    n_params = n_weights(recordings[0].params)
    tried = sorted(removal_candidates(recordings), key=lambda one: one.left)
    tried = tried[: max(1, min(MAX_REMOVED, MAX_WEIGHTS // n_params))]
    results = [removed(recordings[one.text], one, len(tried), in_turn) for one in tried]
    return max(results, key=lambda one: (one.found, one.before - one.after))


def removal_candidates(recordings: Sequence[Recording]) -> list[Candidate]:
    """All heads on all texts. The fewer lead is left, the more likely another token leads."""
    found = []
    for text, recording in enumerate(recordings):
        position = recording.n_tokens - 1
        first, second = (int(id) for id in most_likely(recording.last_logits, 2))
        lead = float(recording.last_logits[first]) - float(recording.last_logits[second])
        direction = logit_direction(recording, position, first, second)
        shares = head_shares(recording, position, direction)  # [n_layer, n_head]
        found += [
            Candidate(text, layer, head, lead - float(share))
            for (layer, head), share in np.ndenumerate(shares)
        ]
    return found


def removed(recording: Recording, one: Candidate, n_tried: int, in_turn: InTurn) -> Removal:
    """The answer with and without the head."""
    position = recording.n_tokens - 1
    part = Component(one.layer, "attn", one.head)
    ablation: Ablation = in_turn(lambda: ablate(recording, position, [part]))
    token, instead = int(ablation.before.argmax()), int(ablation.after.argmax())
    before, after = (
        float(np.exp(log_softmax(logits)[token])) for logits in (ablation.before, ablation.after)
    )
    return Removal(one.text, position, one.layer, one.head, token, instead, before, after, n_tried)


def n_weights(params: Params) -> int:
    """About how many weights a pass reads: those of all blocks and of the vocabulary."""
    n_vocab, n_embd = params["wte"].shape
    return int(n_vocab * n_embd + 12 * len(params["blocks"]) * n_embd**2)
