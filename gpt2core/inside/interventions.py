"""Interventions: remove components of the model, or carry a state from one text to another.

Ablation edits weights: without the rows of ``c_proj`` that read it, a head or a neuron adds
nothing to the residual stream. The edited weights are given to the same ``gpt2()``. Activation
patching goes on from another residual stream: :func:`go_on` runs the remaining blocks. Neither
needs a hook or a second version of ``model.py``.

Invariants: no weight and no recorded array is changed in place. Positions, layers, heads and
neurons count from 0. States before the first edited layer are those of the recording, so an
intervention that changes no bit of a state changes no bit of the logits.

Source: Meng et al., "Locating and Editing Factual Associations in GPT" (2022), for patching.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from gpt2core import model
from gpt2core.errors import InputError
from gpt2core.inside.heads import rows_of_heads
from gpt2core.inside.lens import ranks
from gpt2core.inside.recording import Recording, early_logits, replay_block
from gpt2core.model import BlockParams, LinearParams, Params
from gpt2core.sampling import log_softmax, most_likely

Half = Literal["attn", "mlp"]
Replacement = Literal["zero", "mean"]
REPLACEMENTS: tuple[Replacement, ...] = ("zero", "mean")
# "5.7" head, "5.attn" and "5.mlp" halves of a layer, "5.mlp.1203" neuron
SPELLING = re.compile(r"([0-9]{1,9})\.(?:([0-9]{1,9})|(attn|mlp)|mlp\.([0-9]{1,9}))")


@dataclass(frozen=True)
class Component:
    """What an ablation removes: a head, a neuron, or a whole attention or MLP of a layer.

    ``index`` is the head of an ``attn``, the neuron of an ``mlp``; None is all of it.
    """

    layer: int
    half: Half
    index: int | None = None

    @property
    def name(self) -> str:
        """``5.7`` (head), ``5.attn``, ``5.mlp`` or ``5.mlp.1203`` (neuron)."""
        if self.index is None:
            return f"{self.layer}.{self.half}"
        return f"{self.layer}.{self.index}" if self.half == "attn" else f"{self.whole}.{self.index}"

    @property
    def whole(self) -> str:
        """The name of the half that it is, or is part of."""
        return f"{self.layer}.{self.half}"

    @property
    def order(self) -> tuple[int, str, int]:
        """By layer, attention before MLP, the whole before its parts."""
        return self.layer, self.half, -1 if self.index is None else self.index


def parse_components(
    text: str, n_layer: int, n_head: int, n_neurons: int, field: str = "parts"
) -> tuple[Component, ...]:
    """Components from their names, ``"5.7, 2.mlp"``, in order and each once.

    A part of a half that is named too is left out. Raises InputError for ``field``.
    """
    found = {
        parse_component(name, n_layer, n_head, n_neurons, field)
        for name in re.split(r"[\s,]+", text.strip())
        if name
    }
    halves = {component.name for component in found if component.index is None}
    distinct = (c for c in found if c.index is None or c.whole not in halves)
    return tuple(sorted(distinct, key=lambda component: component.order))


def parse_component(name: str, n_layer: int, n_head: int, n_neurons: int, field: str) -> Component:
    """A component from its name. Raises InputError for ``field``."""
    match = SPELLING.fullmatch(name)
    if not match:
        raise InputError(
            f"{name[:40]!r} names no part of the model; 5.7 is layer 5, head 7, and 5.attn, 5.mlp "
            "and 5.mlp.12 are its attention, its MLP and neuron 12.",
            field,
        )
    layer, head, half, neuron = match.groups()
    in_model(field, name, "layer", int(layer), n_layer)
    if half:
        return Component(int(layer), cast(Half, half))
    if head:
        return Component(int(layer), "attn", in_model(field, name, "head", int(head), n_head))
    return Component(int(layer), "mlp", in_model(field, name, "neuron", int(neuron), n_neurons))


def in_model(field: str, name: str, what: str, value: int, n: int) -> int:
    """``value`` if the model has so many layers, heads or neurons. Raises InputError."""
    if value >= n:
        raise InputError(
            f"{name} has {what} {value}; it must be from 0 to {n - 1}.",
            field,
            minimum=0,
            maximum=n - 1,
        )
    return value


def without(
    params: Params,
    n_head: int,
    components: Iterable[Component],
    replacements: Mapping[Component, np.ndarray] | None = None,
) -> Params:
    """Weights of the same model without ``components``, for the same ``gpt2()``.

    Only the ``c_proj`` that a component writes through is copied and changed: its rows
    become 0 and, for a whole half, its bias too. ``replacements`` are vectors ``[n_embd]`` that
    are added in a component's place at every token; see :func:`mean_outputs`.
    """
    blocks = list(params["blocks"])
    # The whole of a half after its parts, because it also removes what replaced them.
    for component in sorted(components, key=lambda one: one.index is None):
        block: dict[str, Any] = {**blocks[component.layer]}
        c_proj = block[component.half]["c_proj"]
        w, b = c_proj["w"].copy(), c_proj["b"].copy()  # [n_in, n_embd], [n_embd]
        w[rows_of(component, n_head, len(w))] = 0
        if component.index is None:
            b[:] = 0
        if replacements is not None:
            b += replacements[component]
        block[component.half] = {**block[component.half], "c_proj": LinearParams(w=w, b=b)}
        blocks[component.layer] = cast(BlockParams, block)
    return {**params, "blocks": blocks}


def rows_of(component: Component, n_head: int, n_in: int) -> slice:
    """The rows of ``c_proj [n_in, n_embd]`` that read the component."""
    if component.index is None:
        return slice(n_in)
    width = n_in // n_head if component.half == "attn" else 1
    return slice(component.index * width, (component.index + 1) * width)


def mean_outputs(
    recording: Recording, components: Iterable[Component]
) -> dict[Component, np.ndarray]:
    """What each component adds to the residual stream, ``[n_embd]``, as a mean over the text."""
    return {component: mean_output(recording, component) for component in components}


def mean_output(recording: Recording, component: Component) -> np.ndarray:
    layer, index = component.layer, component.index
    if index is None:
        before, after = recording.residual[layer], recording.residual_mid[layer]
        if component.half == "mlp":
            before, after = after, recording.residual[layer + 1]
        mean: np.ndarray = (after - before).mean(axis=0)  # [n_seq, n_embd] -> [n_embd]
        return mean
    if component.half == "attn":
        w = recording.params["blocks"][layer]["attn"]["c_proj"]["w"]
        rows = rows_of_heads(w, recording.n_head)[index]  # [d_head, n_embd]
        of_head: np.ndarray = recording.heads[layer][index].mean(axis=0) @ rows  # [n_embd]
        return of_head
    activations = replay_block(recording, layer).array("ffn.a")[:, index]  # [n_seq]
    row = recording.params["blocks"][layer]["mlp"]["c_proj"]["w"][index]
    of_neuron: np.ndarray = activations.mean() * row  # [n_embd]
    return of_neuron


def go_on(x: np.ndarray, params: Params, n_head: int, layer: int) -> np.ndarray:
    """The state after the last block, from ``x`` before block ``layer``.

    ``[n_seq, n_embd] -> [n_seq, n_embd]``; ``lens.early_logits`` gives its logits.
    """
    for block in params["blocks"][layer:]:
        x = model.transformer_block(x, **block, n_head=n_head)
    return x


def carried(
    recording: Recording, source: Recording, layer: int, positions: Sequence[int]
) -> np.ndarray:
    """The state ``[n_seq, n_embd]`` before block ``layer``, with rows of another recording.

    ``positions`` are the rows that come from ``source``. Raises InputError for one that either
    text does not have.
    """
    n_tokens = min(recording.n_tokens, source.n_tokens)
    for position in positions:
        if not 0 <= position < n_tokens:
            raise InputError(f"Token {position + 1} is not in both texts.", "at")
    x = recording.residual[layer].copy()
    x[list(positions)] = source.residual[layer][list(positions)]
    return x


@dataclass(frozen=True)
class Place:
    """A token among all next tokens; ``rank`` 1 is the likeliest."""

    logit: float
    probability: float
    rank: int


@dataclass(frozen=True)
class Compared:
    """The token ``id`` before and after an intervention."""

    id: int
    before: Place
    after: Place

    @property
    def change(self) -> float:
        """How much the logit rose."""
        return self.after.logit - self.before.logit


@dataclass(frozen=True, eq=False)
class Intervention:
    """Logits of the token after ``position``, without and with a change: ``[n_vocab]`` each."""

    position: int
    before: np.ndarray
    after: np.ndarray

    @property
    def n_changed(self) -> int:
        """The number of logits that differ in any bit."""
        return int(np.count_nonzero(self.before != self.after))

    def comparison(self, ids: Sequence[int]) -> list[Compared]:
        """Each of ``ids`` before and after."""
        before, after = (places(logits, ids) for logits in (self.before, self.after))
        return [Compared(*row) for row in zip(ids, before, after, strict=True)]

    def leaders(self, n: int) -> list[int]:
        """The ``n`` likeliest ids before, then those of the ``n`` likeliest after that are new."""
        ids = [int(id) for row in (self.before, self.after) for id in most_likely(row, n)]
        return list(dict.fromkeys(ids))


@dataclass(frozen=True, eq=False)
class Ablation(Intervention):
    """``after`` is without ``components``; ``replacement`` is what stands in their place."""

    components: tuple[Component, ...]
    replacement: Replacement


def places(logits: np.ndarray, ids: Sequence[int]) -> list[Place]:
    """The place of each of ``ids`` in ``logits [n_vocab]``."""
    logprobs = log_softmax(logits)  # [n_vocab]
    rank_of_ids = ranks(logits[None], ids)[0]  # [len(ids)]
    return [
        Place(float(logits[id]), float(np.exp(logprobs[id])), int(rank))
        for id, rank in zip(ids, rank_of_ids, strict=True)
    ]


def ablate(
    recording: Recording,
    position: int,
    components: Sequence[Component],
    replacement: Replacement = "zero",
) -> Ablation:
    """Run the text without ``components``, from the first layer that has one of them."""
    means = mean_outputs(recording, components) if replacement == "mean" else None
    params = without(recording.params, recording.n_head, components, means)
    first = min((c.layer for c in components), default=recording.n_layer)
    state = go_on(recording.residual[first], params, recording.n_head, first)
    before, after = both_logits(recording, state, position)
    return Ablation(position, before, after, tuple(components), replacement)


def patch(
    recording: Recording, source: Recording, layer: int, positions: Sequence[int], position: int
) -> Intervention:
    """Carry states before block ``layer`` over from ``source``; the token after ``position``.

    Raises InputError (see :func:`carried`).
    """
    x = carried(recording, source, layer, positions)
    state = go_on(x, recording.params, recording.n_head, layer)
    return Intervention(position, *both_logits(recording, state, position))


def patched_logits(
    recording: Recording,
    source: Recording,
    layer: int,
    positions: Sequence[int],
    position: int,
    ids: Sequence[int],
) -> np.ndarray:
    """The logits ``[len(ids)]`` of some tokens after :func:`patch`.

    The rest of the vocabulary is not computed, which takes longer than most of the blocks.
    """
    state = go_on(
        carried(recording, source, layer, positions), recording.params, recording.n_head, layer
    )
    wte, ln_f = recording.params["wte"], recording.params["ln_f"]
    logits: np.ndarray = model.unembed(state[position : position + 1], wte[list(ids)], ln_f)[0]
    return logits  # [len(ids)]


def both_logits(
    recording: Recording, state: np.ndarray, position: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``[n_vocab]`` after ``position``: of the recording, and of another last state."""
    row = slice(position, position + 1)
    # Both are unembedded as one row. The pass's own logits may differ in the last bit.
    before = early_logits(recording.residual[-1][row], recording.params)[0]
    return before, early_logits(state[row], recording.params)[0]
