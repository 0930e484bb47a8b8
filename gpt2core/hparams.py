"""A GPT-2's hyper-parameters: five whole numbers, and the four sizes OpenAI released.

The loader reads them before any weight; every other module takes its dimensions from
them. The check of token ids against them is here too, for every module that takes a prompt.

Invariant: an :class:`HParams` that exists is consistent (all numbers positive, ``n_embd``
divisible by ``n_head``); no other module checks this again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from gpt2core.errors import InputError, ModelFileError

# Tensors are listed by layer before a file is read, so that a damaged number must be small.
MAX_LAYERS = 10_000


@dataclass(frozen=True)
class HParams:
    """Hyper-parameters under the names of OpenAI's ``hparams.json``.

    ``n_vocab`` tokens in the vocabulary, ``n_ctx`` positions in the context,
    ``n_embd`` channels, ``n_head`` attention heads a layer, ``n_layer`` layers.
    """

    n_vocab: int = 50257
    n_ctx: int = 1024
    n_embd: int = 768
    n_head: int = 12
    n_layer: int = 12

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelFileError(
                    f"hyper-parameter {name} is {value!r}; it must be a whole number of at least 1."
                )
        if self.n_layer > MAX_LAYERS:
            raise ModelFileError(
                f"hyper-parameter n_layer is {self.n_layer}; it can be {MAX_LAYERS:,} at most."
            )
        if self.n_embd % self.n_head:
            raise ModelFileError(
                f"n_embd is {self.n_embd} and n_head is {self.n_head}; "
                "the heads must divide the channels evenly."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HParams":
        """From ``hparams.json`` or a Hugging Face ``config.json``; other keys are ignored.

        Raises ModelFileError if one of the five numbers is missing or invalid.
        """
        # In a config.json n_positions decides. Some have an n_ctx of another value.
        names = {"n_vocab": ("n_vocab", "vocab_size"), "n_ctx": ("n_positions", "n_ctx")}
        numbers = {}
        for field in fields(cls):
            stated = [one for one in names.get(field.name, (field.name,)) if one in values]
            if not stated:
                raise ModelFileError(
                    f"the model's hyper-parameters lack {field.name}; found: "
                    f"{', '.join(sorted(values)) or 'nothing'}."
                )
            numbers[field.name] = values[stated[0]]
        return cls(**numbers)

    def to_dict(self) -> dict[str, int]:
        """The five numbers, as ``hparams.json`` holds them."""
        return asdict(self)

    @property
    def n_params(self) -> int:
        """The number of weights (124,439,808 for 124M)."""
        d = self.n_embd
        block = 12 * d * d + 13 * d  # ln_1, c_attn, c_proj, ln_2, c_fc, c_proj
        return (self.n_vocab + self.n_ctx) * d + self.n_layer * block + 2 * d


# OpenAI's released models (https://github.com/openai/gpt-2), by the name of their folder.
MODEL_SIZES: dict[str, HParams] = {
    "124M": HParams(n_embd=768, n_head=12, n_layer=12),
    "355M": HParams(n_embd=1024, n_head=16, n_layer=24),
    "774M": HParams(n_embd=1280, n_head=20, n_layer=36),
    "1558M": HParams(n_embd=1600, n_head=25, n_layer=48),
}


def check_prompt(
    ids: Sequence[int], n_vocab: int, n_ctx: int, unused: Collection[int] = ()
) -> None:
    """Raise InputError unless ``ids`` can be continued by at least one token.

    A prompt is 1 to ``n_ctx - 1`` ids as :func:`check_ids` wants them, because the context
    holds the prompt and the generated tokens together.
    """
    check_prompt_length(len(ids), n_ctx)
    check_ids(ids, n_vocab, unused)


def check_prompt_length(n_tokens: int, n_ctx: int) -> None:
    """Raise InputError unless the context has room for a token after a prompt of ``n_tokens``."""
    if n_tokens >= n_ctx:
        raise InputError(
            f"The prompt is {n_tokens:,} tokens long; this model's context holds {n_ctx:,}, "
            f"so a prompt may be at most {n_ctx - 1:,} tokens to leave room for one more.",
            "prompt",
            n_prompt_tokens=n_tokens,
            n_ctx=n_ctx,
        )


def check_text(ids: Sequence[int], n_vocab: int, n_ctx: int, unused: Collection[int] = ()) -> None:
    """Raise InputError unless ``ids`` can be read whole: 1 to ``n_ctx`` of them."""
    if len(ids) > n_ctx:
        raise InputError(
            f"The text is {len(ids):,} tokens long; this model's context holds {n_ctx:,}.",
            "prompt",
            n_prompt_tokens=len(ids),
            n_ctx=n_ctx,
        )
    check_ids(ids, n_vocab, unused)


def check_ids(ids: Sequence[int], n_vocab: int, unused: Collection[int] = ()) -> None:
    """Raise InputError unless ``ids`` is one or more ids of ``0 … n_vocab - 1``.

    Ids in ``unused`` have a row in the weights and are no token.
    """
    if len(ids) == 0:
        raise InputError("The prompt is empty; it needs at least one token.", "prompt")
    invalid = next((one for one in ids if not 0 <= one < n_vocab or one in unused), None)
    if invalid is not None:
        raise InputError(
            f"Token id {invalid} is not a token that this model has weights for; "
            f"its vocabulary ends at {n_vocab - 1}.",
            "prompt",
            id=int(invalid),
            n_vocab=n_vocab,
        )
