"""Small GPT-2s with seeded weights: what most tests of the core run on.

``tools/make_logit_goldens.py`` builds the same models in Hugging Face transformers and
stores their logits in ``golden/logits.npz``. The weights are not stored, they are drawn
again: from ``RandomState``, because NumPy promises never to change its streams (those
of ``default_rng`` may change with a release).

Each model is there for a mistake that the others would forgive; see ``SMALL_MODELS``.
"""

from dataclasses import dataclass

import numpy as np

from gpt2core.hparams import HParams
from tests.helpers.paths import GOLDEN

LOGIT_GOLDENS = GOLDEN / "logits.npz"
INSIDE_GOLDENS = GOLDEN / "inside.npz"
SCORE_GOLDENS = GOLDEN / "scores.npz"
TOLERANCE = 1e-4  # of a logit or log-probability, between two float32 computations
# The same for a precision of the weights. With int8 weights the engine rounds activations to
# 16 bits, and ``int8_params`` in the readable model does not.
TOLERANCES = {"float32": TOLERANCE, "int8": 3e-3}


@dataclass(frozen=True)
class SmallModel:
    """A shape, a seed, and the spread of the weights drawn for it.

    ``embedding`` is the standard deviation of ``wte`` and half that of ``wpe``, ``weight``
    that of every ``w``, ``bias`` that of every ``b``; the gains ``g`` lie around 1 with
    spread ``gain``.
    """

    hparams: HParams
    seed: int
    embedding: float
    weight: float
    bias: float
    gain: float

    def params(self) -> dict:
        """The model's weights, float32 and drawn anew at every call."""
        h, random = self.hparams, np.random.RandomState(self.seed)

        def draw(*shape, spread, mean=0.0):
            return (mean + spread * random.standard_normal(shape)).astype(np.float32)

        def norm():
            return {
                "g": draw(h.n_embd, spread=self.gain, mean=1.0),
                "b": draw(h.n_embd, spread=self.bias),
            }

        def dense(n_in, n_out):
            return {
                "w": draw(n_in, n_out, spread=self.weight),
                "b": draw(n_out, spread=self.bias),
            }

        d = h.n_embd
        return {
            "wte": draw(h.n_vocab, d, spread=self.embedding),
            "wpe": draw(h.n_ctx, d, spread=2 * self.embedding),
            "blocks": [
                {
                    "ln_1": norm(),
                    "attn": {"c_attn": dense(d, 3 * d), "c_proj": dense(d, d)},
                    "ln_2": norm(),
                    "mlp": {"c_fc": dense(d, 4 * d), "c_proj": dense(4 * d, d)},
                }
                for _ in range(h.n_layer)
            ],
            "ln_f": norm(),
        }

    def ids(self) -> list[int]:
        """A text that fills the model's context, one id after the other at random."""
        random = np.random.RandomState(self.seed + 1)
        return random.randint(0, self.hparams.n_vocab, self.hparams.n_ctx).tolist()


SMALL_MODELS = {
    # The spreads of OpenAI's 124M: nothing is extreme, every part counts.
    "released_spreads": SmallModel(
        HParams(n_vocab=97, n_ctx=64, n_embd=48, n_head=4, n_layer=3),
        seed=1,
        embedding=0.14,
        weight=0.14,
        bias=0.1,
        gain=0.3,
    ),
    # Loud: attention is nearly one-hot and gelu saturates on both sides.
    "large_weights": SmallModel(
        HParams(n_vocab=61, n_ctx=40, n_embd=32, n_head=2, n_layer=2),
        seed=12,
        embedding=1.0,
        weight=0.4,
        bias=0.5,
        gain=0.5,
    ),
    # As quiet as just after initialisation: eps is not small beside the variance.
    "small_weights": SmallModel(
        HParams(n_vocab=53, n_ctx=32, n_embd=40, n_head=5, n_layer=2),
        seed=8,
        embedding=0.02,
        weight=0.02,
        bias=0.02,
        gain=2.0,
    ),
    # One head and one layer, and numbers of channels and places that divide nothing.
    "one_head": SmallModel(
        HParams(n_vocab=31, n_ctx=19, n_embd=21, n_head=1, n_layer=1),
        seed=4,
        embedding=0.3,
        weight=0.3,
        bias=0.3,
        gain=0.3,
    ),
    # As many heads as channels: each query and key is a single number.
    "one_channel_a_head": SmallModel(
        HParams(n_vocab=43, n_ctx=24, n_embd=12, n_head=12, n_layer=4),
        seed=5,
        embedding=0.3,
        weight=0.4,
        bias=0.2,
        gain=0.3,
    ),
}

# Several blocks of the engine's keys, more than one of its prefill chunks, and shards for
# four threads. Not among SMALL_MODELS, because the readable model takes long with it.
LONG = SmallModel(
    HParams(n_vocab=150, n_ctx=200, n_embd=48, n_head=4, n_layer=2),
    seed=9, embedding=0.14, weight=0.14, bias=0.1, gain=0.3,
)  # fmt: skip


def int8_params(params: dict) -> dict:
    """``params`` with every matrix rounded to whole multiples of a 127th of a column's largest."""

    def rounded(w):  # [n_in, n_out]
        step = (np.abs(w).max(axis=0) / np.float32(127)).astype(np.float32)  # [n_out]
        return (np.rint(w / np.where(step, step, 1)) * step).astype(np.float32)

    def of(value):
        if isinstance(value, list):
            return [of(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {name: rounded(one) if name == "w" else of(one) for name, one in value.items()}

    return {**of(params), "wte": np.ascontiguousarray(rounded(params["wte"].T).T)}
