"""Direct logit attribution as a ledger: parts, then one part's heads or neurons, then sources.

Invariant: each ledger adds up to the line that it opens, but for float32; what is not drawn
is one line with its sum.
"""

import re
from dataclasses import dataclass

import numpy as np

from gpt2core.errors import InputError
from gpt2core.inside.attribution import (
    Attribution,
    LogitDirection,
    Split,
    attribution,
    by_head,
    by_neuron,
    by_source,
    logit_direction,
)
from gpt2core.inside.document import in_range
from gpt2core.sampling import N_CANDIDATES, most_likely
from webapp.drawing import SignedBar, signed_bar
from webapp.inside.labels import Label, Piece
from webapp.inside.numbers import fixed, fixed_signed, number
from webapp.inside.query import token_value
from webapp.inside.steps.step import Check
from webapp.inside.view import View

N_NEURONS = 10  # of an MLP that are named
PLACES = 4
TOLERANCE = 1e-3  # of a logit: float32's rounding in 12 layers of 768 channels
NAMES = {
    "wte": "the token’s embedding",
    "wpe": "its position",
    "attn": "attention",
    "mlp": "MLP",
    "bias": "the final norm’s bias",
}


@dataclass(frozen=True)
class Part:
    """What is opened: a layer's attention, one head of it, or a layer's MLP."""

    layer: int
    kind: str
    head: int | None = None

    @property
    def name(self) -> str:
        """As the field ``part`` spells it: ``1.attn``, ``1.attn.2``, ``1.mlp``."""
        return f"{self.layer}.{self.kind}" + ("" if self.head is None else f".{self.head}")


@dataclass(frozen=True)
class Line:
    """One share. ``part`` opens it, "" where it cannot be opened; ``detail`` is a number beside.

    ``token`` is the source token of a share that has one.
    """

    label: str
    code: str
    value: float
    bar: SignedBar
    part: str = ""
    is_open: bool = False
    detail: str = ""
    token: Label | None = None

    @property
    def text(self) -> str:
        return fixed_signed(self.value, PLACES)


@dataclass(frozen=True)
class Ledger:
    """Lines that add up to ``total``; ``check`` compares that with the line above."""

    lines: tuple[Line, ...]
    total: float
    check: Check

    @property
    def text(self) -> str:
        return fixed_signed(self.total, PLACES)


@dataclass(frozen=True)
class Choice:
    """A token that can be explained, or compared with. ``value`` names it in a field."""

    piece: Piece
    value: str
    logit: float


@dataclass(frozen=True)
class AttributionPage:
    """What the page shows; ``sources`` is None where an MLP is opened."""

    found: Attribution
    token: Choice
    against: Choice | None
    choices: tuple[Choice, ...]
    opened: Part
    parts: Ledger
    inner: Ledger
    sources: Ledger | None
    sentence: str


def page_of(view: View, opened: Part | None) -> AttributionPage:
    """The whole page; without ``opened`` the attention of the largest share is."""
    recording, p = view.recording, view.position
    found = attribution(recording, p, view.token, view.query.against)
    direction = logit_direction(recording, p, view.token, view.query.against)
    opened = opened or largest_attention(found)
    share = found.value(Part(opened.layer, opened.kind).name)
    if opened.kind == "mlp":
        inner, sources = neuron_ledger(view, opened, direction, share), None
    else:
        split = by_head(recording, opened.layer, p, direction)
        if opened.head is None:
            opened = Part(opened.layer, opened.kind, split.largest(1)[0])
        inner = head_ledger(split, opened, share)
        sources = source_ledger(view, opened, direction, float(split.values[opened.head or 0]))
    token, against = choice(view, view.token), view.query.against
    return AttributionPage(
        found=found,
        token=token,
        against=None if against is None else choice(view, against),
        choices=choices(view),
        opened=opened,
        parts=part_ledger(found, opened),
        inner=inner,
        sources=sources,
        sentence=f"The logit of “{token.piece.piece}”: {called(opened)} adds "
        f"{fixed_signed(share, PLACES)} to {fixed(found.logit, PLACES)}.",
    )


def called(part: Part) -> str:
    """A part in a sentence."""
    return f"layer {part.layer}’s {NAMES[part.kind]}"


def parse_part(text: str | None, view: View) -> Part | None:
    """The field ``part``; None where it is empty. Raises InputError."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,9})\.(?:(mlp)|attn(?:\.([0-9]{1,9}))?)", text)
    if not match:
        raise InputError(
            f"The field part is {text[:40]!r}; it must be as in 1.attn, 1.attn.2 or 1.mlp.", "part"
        )
    layer, mlp, head = match.groups()
    in_range("part", "Layer", int(layer), 0, view.recording.n_layer - 1)
    if head is not None:
        in_range("part", "Head", int(head), 0, view.recording.n_head - 1)
    return Part(int(layer), mlp or "attn", None if head is None else int(head))


def largest_attention(found: Attribution) -> Part:
    """The attention of the largest share."""
    inner = [part for part in found.parts if part.name.endswith(".attn")]
    layer, kind = max(inner, key=lambda part: abs(part.value)).name.split(".")
    return Part(int(layer), kind)


def choice(view: View, id: int) -> Choice:
    value = token_value(id, view.model.encoder)
    return Choice(view.piece(id), value, float(view.recording.logits(view.position)[id]))


def choices(view: View) -> tuple[Choice, ...]:
    """The likeliest tokens and those that were chosen, by logit."""
    logits = view.recording.logits(view.position)
    ids = {int(id) for id in most_likely(logits, N_CANDIDATES)} | {view.token}
    if view.query.against is not None:
        ids.add(view.query.against)
    ordered = sorted(ids, key=lambda id: (-float(logits[id]), id))
    return tuple(choice(view, id) for id in ordered)


# Ledgers


def ledger(lines: list[Line], above: float, what: str, line_above: str) -> Ledger:
    """``lines`` and whether they add up to ``above``."""
    total = sum(line.value for line in lines)
    off = abs(total - above)
    said = f"{what} add up to {fixed(total, PLACES)}; {line_above} is {fixed(above, PLACES)}"
    said += f" (off by {number(off, 2)})." if off else "."
    return Ledger(tuple(lines), total, Check(said, off <= TOLERANCE * max(1.0, abs(above))))


def part_label(name: str) -> str:
    """``layer 1, attention`` for the part ``1.attn``."""
    layer, _, kind = name.rpartition(".")
    return f"layer {layer}, {NAMES[kind]}" if layer else NAMES[kind]


def part_ledger(found: Attribution, opened: Part | None = None) -> Ledger:
    """The logit by part of the model; ``opened`` is shown in detail beside it."""
    name_of_open = opened and Part(opened.layer, opened.kind).name
    scale = max(abs(part.value) for part in found.parts)
    lines = []
    for part in found.parts:
        bar = signed_bar(part.value, scale)
        name = part.name if "." in part.name else ""  # the embeddings cannot be opened
        lines.append(
            Line(part_label(part.name), part.name, part.value, bar, name, part.name == name_of_open)
        )
    line_above = "the logit" if found.against is None else "the difference of the logits"
    return ledger(lines, found.logit, f"These {len(lines)} parts", line_above)


def head_ledger(split: Split, opened: Part, share: float) -> Ledger:
    """A layer's attention by head."""
    scale = max(float(np.abs(split.values).max()), abs(split.bias))
    lines = [
        Line(
            f"head {head}",
            f"heads[{head}]",
            float(value),
            signed_bar(float(value), scale),
            Part(opened.layer, "attn", head).name,
            head == opened.head,
        )
        for head, value in enumerate(split.values)
    ]
    lines.append(Line("bias", "c_proj.b", split.bias, signed_bar(split.bias, scale)))
    return ledger(lines, share, f"{len(split.values)} heads and bias", called(opened))


def neuron_ledger(view: View, opened: Part, direction: LogitDirection, share: float) -> Ledger:
    """A layer's MLP by neuron: the strongest, and the others together."""
    block = view.recordings.replay_block(view.recording, opened.layer)
    split = by_neuron(view.recording, block, view.position, direction)
    activations = block.array("ffn.a")[view.position]  # [4*n_embd]
    strongest = split.largest(N_NEURONS)
    others = split.others(strongest)
    scale = max(float(np.abs(split.values).max()), abs(others), abs(split.bias))
    lines = [
        Line(
            f"neuron {neuron}",
            f"a[{neuron}]",
            float(split.values[neuron]),
            signed_bar(float(split.values[neuron]), scale),
            detail=fixed(float(activations[neuron])),
        )
        for neuron in strongest
    ]
    n_others = len(split.values) - len(strongest)
    if n_others:
        lines.append(Line(f"{n_others:,} others together", "", others, signed_bar(others, scale)))
    lines.append(Line("bias", "c_proj.b", split.bias, signed_bar(split.bias, scale)))
    return ledger(lines, share, f"{len(split.values):,} neurons and bias", called(opened))


def source_ledger(view: View, opened: Part, direction: LogitDirection, share: float) -> Ledger:
    """One head by the tokens it looks at: those of the window, and those before it."""
    p, head = view.position, opened.head or 0
    block = view.recordings.replay_block(view.recording, opened.layer)
    values = by_source(view.recording, block, head, p, direction).values  # [p + 1]
    weights = view.recording.patterns[opened.layer][head, p, : p + 1]  # [p + 1]
    before, drawn = view.window.split(values)
    weight_before, drawn_weights = view.window.split(weights)
    scale = max(float(np.abs(drawn).max()), abs(before))
    lines = []
    if n_before := view.window.n_before:
        label = f"… {n_before} earlier together"
        bar = signed_bar(before, scale)
        lines.append(Line(label, "", before, bar, detail=fixed(weight_before)))
    for i, (value, weight) in enumerate(zip(drawn, drawn_weights, strict=True)):
        token = view.labels[view.window.start + i]
        bar = signed_bar(float(value), scale)
        lines.append(Line("", "", float(value), bar, detail=fixed(float(weight)), token=token))
    return ledger(lines, share, f"{len(values)} source tokens", f"head {head}’s share")


def all_shares(view: View, opened: Part | None) -> list[tuple[str, float]]:
    """(name, share) of every part and head, then of every neuron or source token opened.

    Names are those of the field ``part``; below them ``1.attn.bias``, ``1.attn.2.token.5``,
    ``1.mlp.neuron.447``. The first is the logit itself.
    """
    recording, p = view.recording, view.position
    found = attribution(recording, p, view.token, view.query.against)
    direction = logit_direction(recording, p, view.token, view.query.against)
    shares = [("logit", found.logit), *((part.name, part.value) for part in found.parts)]
    for layer in range(recording.n_layer):
        split = by_head(recording, layer, p, direction)
        shares += [(f"{layer}.attn.{head}", float(v)) for head, v in enumerate(split.values)]
        shares.append((f"{layer}.attn.bias", split.bias))
    if opened is None:
        return shares
    block = view.recordings.replay_block(recording, opened.layer)
    if opened.kind == "mlp":
        split = by_neuron(recording, block, p, direction)
        shares += [(f"{opened.name}.neuron.{i}", float(v)) for i, v in enumerate(split.values)]
        shares.append((f"{opened.name}.bias", split.bias))
    elif opened.head is not None:
        split = by_source(recording, block, opened.head, p, direction)
        shares += [(f"{opened.name}.token.{i + 1}", float(v)) for i, v in enumerate(split.values)]
    return shares
