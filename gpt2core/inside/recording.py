"""A recorded forward pass: the data of all inside views.

:func:`record_pass` runs ``gpt2()`` under the recorder. It keeps the residual stream, the
attention patterns and the head outputs of every layer, and the last token's logits: 10 MB
for 124M and 64 tokens. :func:`replay_block` runs one block again from its recorded input
and keeps all of its values.

Invariants: a recording depends only on the ids and the weights. A replayed value equals the
first pass's, bit for bit. Positions and layers count from 0.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpt2core import hparams, model
from gpt2core.errors import InputError
from gpt2core.inside.recorder import Call, Trace, Value, record
from gpt2core.model import Params

MAX_TOKENS = 256  # in one recording; the size of attention patterns grows quadratically
EPSILON = inspect.signature(model.layer_norm).parameters["eps"].default

# (function, variable) of the values that the first pass keeps. mha assigns ``heads`` twice;
# only the first, [n_head, n_seq, d_head], is kept.
KEPT = {
    ("gpt2", "inputs"),
    ("gpt2", "x"),
    ("transformer_block", "x"),
    ("attention", "weights"),
    ("mha", "heads"),
}


@dataclass(frozen=True, eq=False)
class Recording:
    """The kept values of one pass over ``ids``, float32. Tuples have one array per layer.

    - ``residual``: ``[n_seq, n_embd]``, the residual stream before each block; one more entry,
      the last, is the stream after the last block
    - ``residual_mid``: ``[n_seq, n_embd]``, the stream after the block's attention was added
    - ``patterns``: ``[n_head, n_seq, n_seq]``, attention weights; rows are queries
    - ``heads``: ``[n_head, n_seq, d_head]``, head outputs before the projection ``c_proj``
    - ``divisors``: ``[n_seq]``, the number by which the final norm divided each row
    - ``last_logits``: ``[n_vocab]``, logits of the last token
    - ``trace``: the same values with their lines
    """

    ids: tuple[int, ...]
    params: Params
    n_head: int
    trace: Trace
    residual: tuple[np.ndarray, ...]
    residual_mid: tuple[np.ndarray, ...]
    patterns: tuple[np.ndarray, ...]
    heads: tuple[np.ndarray, ...]
    divisors: np.ndarray
    last_logits: np.ndarray

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    @property
    def n_layer(self) -> int:
        return len(self.patterns)

    @property
    def n_vocab(self) -> int:
        return len(self.last_logits)

    @property
    def nbytes(self) -> int:
        """Bytes that this recording holds, without the weights."""
        arrays = [value.array for value in self.trace] + [self.divisors, self.last_logits]
        return sum(array.nbytes for array in arrays)

    def logits(self, position: int) -> np.ndarray:
        """Logits ``[n_vocab]`` of the token that follows ``position``.

        They are computed from the kept state as one row, and may differ in the last bit from
        those of ``gpt2()``, which computes all rows at once.
        """
        if position == self.n_tokens - 1:
            return self.last_logits
        row = self.residual[-1][position : position + 1]  # [1, n_embd]
        logits: np.ndarray = early_logits(row, self.params)[0]  # [n_vocab]
        return logits


@dataclass(frozen=True, eq=False)
class Block:
    """All values of one layer; see :func:`replay_block`."""

    layer: int
    trace: Trace

    def array(self, path: str) -> np.ndarray:
        """The array at a path inside the block, such as ``"mha.v"``. Raises KeyError."""
        return self.trace.array(f"{Call('transformer_block', self.layer).path}.{path}")


def check_ids(ids: Sequence[int], n_vocab: int, n_ctx: int) -> None:
    """Raise InputError for the field ``prompt`` unless ``ids`` can be recorded.

    Valid are 1 to ``min(MAX_TOKENS, n_ctx)`` ids, each from 0 to ``n_vocab - 1``.
    """
    limit = min(MAX_TOKENS, n_ctx)
    if len(ids) == 0:
        raise InputError("The text is empty: type at least one character.", "prompt")
    if len(ids) > limit:
        why = "the inside view takes" if limit == MAX_TOKENS else "this model's context holds"
        raise InputError(
            f"The text is {len(ids):,} tokens long; {why} {limit:,} at most.",
            "prompt",
            n_prompt_tokens=len(ids),
            maximum=limit,
        )
    hparams.check_ids(ids, n_vocab)


def record_pass(ids: Sequence[int], params: Params, n_head: int) -> Recording:
    """Run ``gpt2()`` on ``ids`` under the recorder. Raises InputError (see check_ids).

    The pass gets the embeddings of the text's own tokens only: scores of the whole vocabulary at
    every position would be a quarter of its work in 124M, and are not kept.
    """
    check_ids(ids, len(params["wte"]), len(params["wpe"]))
    own_ids, rows = np.unique(np.asarray(ids), return_inverse=True)
    # Rows as a list: asarray() would return the same array, which the recorder ignores.
    own: Params = {**params, "wte": params["wte"][own_ids]}  # [n_own, n_embd]
    _, trace = record(model.gpt2, rows.tolist(), **own, n_head=n_head, keep=is_kept)
    trace = Trace([with_ids(value, ids) for value in trace])
    [variance] = [v.array for v in trace if v.name == "variance"]  # [n_seq, 1]
    residual = arrays_of(trace, "gpt2", "x")
    return Recording(
        ids=tuple(int(token_id) for token_id in ids),
        params=params,
        n_head=n_head,
        trace=trace,
        residual=residual,
        residual_mid=arrays_of(trace, "transformer_block", "x"),
        patterns=arrays_of(trace, "attention", "weights"),
        heads=arrays_of(trace, "mha", "heads"),
        divisors=np.sqrt(variance[:, 0] + EPSILON),
        last_logits=early_logits(residual[-1][-1:], params)[0],
    )


def early_logits(x: np.ndarray, params: Params) -> np.ndarray:
    """Logits of any states of the residual stream: ``[n, n_embd] -> [n, n_vocab]``.

    A single row is computed twice: the last bits of OpenBLAS's product of one row depend on the
    number of its threads and on the addresses of the arrays, those of several rows do not.
    """
    rows = np.repeat(x, 2, axis=0) if len(x) == 1 else x  # [n or 2, n_embd]
    logits: np.ndarray = model.unembed(rows, params["wte"], params["ln_f"])
    return logits[:1].copy() if len(x) == 1 else logits  # a view would keep both rows alive


def with_ids(value: Value, ids: Sequence[int]) -> Value:
    """``value``; if it is the pass's input, with the ids in place of the rows of ``own``."""
    if (value.call.function, value.name) != ("gpt2", "inputs"):
        return value
    return replace(value, array=np.array(ids, dtype=int))  # [n_seq]


def is_kept(value: Value) -> bool:
    """Whether the first pass keeps ``value``."""
    call = value.call
    if (call.function, value.name) in KEPT:
        return call.function == "gpt2" or value.index == 0
    is_final_norm = call.caller is not None and call.caller.function == "unembed"
    return is_final_norm and value.name == "variance"


def arrays_of(trace: Trace, function: str, name: str) -> tuple[np.ndarray, ...]:
    return tuple(value.array for value in trace.find(function, name))


def replay_block(recording: Recording, layer: int) -> Block:
    """Run block ``layer`` again from its recorded input. The trace has all of its values."""
    _, trace = record(
        model.transformer_block,
        recording.residual[layer],
        **recording.params["blocks"][layer],
        n_head=recording.n_head,
        root=Call("transformer_block", layer),
    )
    return Block(layer, trace)


def replay_unembed(recording: Recording) -> Trace:
    """Run final norm and unembedding again for all tokens. The trace has all values."""
    _, trace = record(
        model.unembed,
        recording.residual[-1],
        recording.params["wte"],
        recording.params["ln_f"],
        root=Call("unembed", caller=Call("gpt2")),
    )
    return trace


def named_arrays(recording: Recording, *blocks: Block) -> dict[str, np.ndarray]:
    """Path -> array, for ``np.savez``: the kept values, then all values of ``blocks``.

    ``last_logits`` and ``divisors`` have these names.
    """
    values = [value for trace in (recording.trace, *(b.trace for b in blocks)) for value in trace]
    arrays = {value.path: value.array for value in values}
    return arrays | {"divisors": recording.divisors, "last_logits": recording.last_logits}
