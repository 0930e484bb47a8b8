"""Direct logit attribution: a logit as a sum with one share for each part of the model.

The residual stream is a sum: token embedding, position embedding, and the output of each
attention and each MLP. The final norm subtracts the mean, divides by a number and multiplies
by ``g``. With the divisor of this pass held fixed, that is linear: the share of a part is the
dot product of its output with one vector, the logit's direction. Shares are direct effects
only; an effect through later layers is part of the later layers' shares.

Source: Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).

Invariants: shares are float64. They add up to the logit except for the float32 rounding of
the pass. The share of a difference of two logits is the difference of the shares. Positions,
layers and heads count from 0.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.inside.recording import Block, Recording


@dataclass(frozen=True, eq=False)
class LogitDirection:
    """The direction of a logit, or of a difference of two, in the residual stream of a token.

    A vector ``x`` of that stream adds ``x @ vector`` to the logit; ``vector`` is ``[n_embd]``
    float64. ``bias`` is the share of the final norm's ``b``.
    """

    vector: np.ndarray
    bias: float

    def shares(self, vectors: np.ndarray) -> np.ndarray:
        """Shares of vectors of the residual stream: ``[..., n_embd] -> [...]``, float64."""
        shares: np.ndarray = vectors.astype(np.float64) @ self.vector
        return shares

    def shares_of_rows(self, w: np.ndarray) -> np.ndarray:
        """Shares of the rows of a weight matrix: ``[n_in, n_embd] -> [n_in]``, float32."""
        # In the dtype of w, because a float64 copy of w would cost more than the product.
        shares: np.ndarray = w @ self.vector.astype(w.dtype)
        return shares


@dataclass(frozen=True)
class Part:
    """A share and its part: ``wte``, ``wpe``, ``0.attn``, ``0.mlp``, ``1.attn`` … ``bias``."""

    name: str
    value: float


@dataclass(frozen=True)
class Attribution:
    """The logit of ``token`` as a sum of ``parts``.

    If ``against`` is not None, ``logit`` is the logit of ``token`` minus that of ``against``.
    ``divisor`` is the number by which the final norm divided.
    """

    token: int
    against: int | None
    logit: float
    divisor: float
    parts: tuple[Part, ...]

    @property
    def total(self) -> float:
        """The sum of the parts, which equals ``logit`` except for rounding."""
        return sum(part.value for part in self.parts)

    def value(self, name: str) -> float:
        """The share of the part ``name``. Raises KeyError."""
        return {part.name: part.value for part in self.parts}[name]


@dataclass(frozen=True, eq=False)
class Split:
    """The share of one part, split further: ``values [n]`` float64 and the part's ``bias``.

    They add up to the part's share except for rounding.
    """

    values: np.ndarray
    bias: float = 0.0

    @property
    def total(self) -> float:
        return float(self.values.sum()) + self.bias

    def largest(self, n: int) -> list[int]:
        """Indices of the ``n`` values of largest magnitude, in that order."""
        order = np.argsort(-np.abs(self.values), kind="stable")
        return [int(i) for i in order[:n]]

    def others(self, indices: list[int]) -> float:
        """The sum of the values that are not at ``indices``, without the bias."""
        return float(np.delete(self.values, indices).sum())


def logit_direction(
    recording: Recording, position: int, token: int, against: int | None = None
) -> LogitDirection:
    """The direction of the logit of ``token`` (minus that of ``against``) at ``position``."""
    wte, ln_f = recording.params["wte"], recording.params["ln_f"]
    row = wte[token].astype(np.float64)  # [n_embd]
    if against is not None:
        row = row - wte[against]  # [n_embd]
    scaled = ln_f["g"] * row / float(recording.divisors[position])  # [n_embd]
    # (x - mean(x)) @ scaled == x @ (scaled - mean(scaled))
    return LogitDirection(scaled - scaled.mean(), float(ln_f["b"].astype(np.float64) @ row))


def attribution(
    recording: Recording, position: int, token: int, against: int | None = None
) -> Attribution:
    """The logit of ``token`` (minus that of ``against``) at ``position``, by part.

    The output of an attention or MLP is taken as the difference of the residual stream after
    and before it, so the outputs add up to the last state, except for the rounding of
    ``wte + wpe``.
    """
    direction = logit_direction(recording, position, token, against)
    outputs = {
        "wte": recording.params["wte"][recording.ids[position]],
        "wpe": recording.params["wpe"][position],
    }
    for layer in range(recording.n_layer):
        before, middle, after = (
            stream[position].astype(np.float64)
            for stream in (
                recording.residual[layer],
                recording.residual_mid[layer],
                recording.residual[layer + 1],
            )
        )
        outputs[f"{layer}.attn"] = middle - before  # [n_embd]
        outputs[f"{layer}.mlp"] = after - middle  # [n_embd]
    parts = [Part(name, float(direction.shares(vector))) for name, vector in outputs.items()]
    logits = recording.logits(position)  # [n_vocab]
    logit = float(logits[token]) - (0.0 if against is None else float(logits[against]))
    divisor = float(recording.divisors[position])
    return Attribution(token, against, logit, divisor, (*parts, Part("bias", direction.bias)))


def by_head(recording: Recording, layer: int, position: int, direction: LogitDirection) -> Split:
    """The share of ``{layer}.attn`` by head, ``[n_head]``; ``bias`` is that of ``c_proj``."""
    c_proj = recording.params["blocks"][layer]["attn"]["c_proj"]
    n_head, _, d_head = recording.heads[layer].shape
    row_shares = direction.shares_of_rows(c_proj["w"]).reshape(n_head, d_head)
    values = (recording.heads[layer][:, position].astype(np.float64) * row_shares).sum(axis=-1)
    return Split(values, float(direction.shares(c_proj["b"])))


def by_source(
    recording: Recording, block: Block, head: int, position: int, direction: LogitDirection
) -> Split:
    """The share of one head by source token, ``[position + 1]``.

    A source token's share is its attention weight times the share of its projected value.
    """
    c_proj = recording.params["blocks"][block.layer]["attn"]["c_proj"]
    v = block.array("mha.v")[head, : position + 1]  # [position + 1, d_head]
    d_head = v.shape[-1]
    rows = c_proj["w"][head * d_head : (head + 1) * d_head]  # [d_head, n_embd]
    weights = recording.patterns[block.layer][head, position, : position + 1]
    return Split(weights.astype(np.float64) * (v @ direction.shares_of_rows(rows)))


def by_neuron(
    recording: Recording, block: Block, position: int, direction: LogitDirection
) -> Split:
    """The share of ``{block.layer}.mlp`` by neuron, ``[4 * n_embd]``.

    A neuron's share is its activation times the share of its row of ``c_proj``.
    """
    c_proj = recording.params["blocks"][block.layer]["mlp"]["c_proj"]
    activations = block.array("ffn.a")[position].astype(np.float64)  # [4*n_embd]
    return Split(
        activations * direction.shares_of_rows(c_proj["w"]), float(direction.shares(c_proj["b"]))
    )
