"""The fast forward pass: many sequences at once, a token each a step, over a KV cache.

The numbers are those of ``model.gpt2``, the reference. Each sequence owns a *slot* of the
cache: :meth:`Engine.open` takes a free one, :meth:`Engine.prefill` reads a prompt into it,
:meth:`Engine.step` appends one token to each of several slots, and :meth:`Engine.close`
frees it. Sequences of any lengths run together, and come and go between any two calls.

How a pass goes: ``layout.py`` cuts every layer into tensor-parallel shards. Each thread of
the team takes some of them (a :class:`ShardWorker`) through attention, waits at a barrier,
adds up the results of all shards, and does the same with the feed-forward half: two barriers
a layer. The residual stream is small, so each thread holds a whole copy.

Invariants: nothing in the cache is computed again, and a step allocates no more for a longer
text. All arrays are float32. Positions whose logits are not requested stop at the last
layer's keys and values. In every product and sum, a row is added up in the same order
whatever other rows there are: the logits of a sequence do not depend, to the last bit, on
the sequences beside it, on how its prompt was cut or on the number of threads. (This holds
with OpenBLAS's small-matrix kernels, which need AVX-512.) One thread at a time may use an
engine.

In shapes, ``n_local`` is the number of a worker's shards, ``n_head`` that of the heads in a
shard; ``n_rows`` is rounded up to ``n_group * group`` (see :func:`grouped`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine.blas import has_small_kernels
from gpt2core.engine.blas import n_threads as threads_allotted
from gpt2core.engine.gates import Gates, RowGates, row_gates
from gpt2core.engine.layout import WIDTH, Layout, layout_in_memory, n_blocks
from gpt2core.engine.scores import Scores, join_scores, score_rows
from gpt2core.engine.team import Team
from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_ids
from gpt2core.model import Params

PREFILL_CHUNK = 128  # tokens of a prompt in one pass: bounds the buffers
SCORE_CHUNK = 32  # tokens in one pass with the logits of all: bounds the memory these take
# Slots that share one np.matmul call are padded to the longest. An extra call costs about as
# much as attending to 8 more key blocks, so slots share while the padding stays below that.
MAX_PADDING_BLOCKS_PER_CALL = 8
GELU_ROWS = 24  # GELU is applied to this many rows at once, so that they stay in L2
GROUP = 8  # rows in one product; more rows are several products, each small enough
# For one row NumPy calls GEMV, which on this layout is slower than the small-matrix kernels
# with two rows and rounds differently. Pad to two rows if there are such kernels; without
# them GEMV is the faster choice.
MIN_ROWS = 2 if has_small_kernels() else 1
MAX_UNPACKED_PRODUCT = 1_000_000  # n_rows * n_in * n_out up to which OpenBLAS packs nothing
MIN_WEIGHTS_FOR_THREADS = 1_000_000  # of a layer; with fewer, threads cost more than they gain

# gelu(x) = x/2 * (1 + tanh(x * (LINEAR + CUBIC * x * x))); the layout holds the half.
LINEAR, CUBIC = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
EPS = 1e-5

Array = NDArray[np.float32]
Layer = dict[str, Array]  # a worker's views of one layer's weights and cache
Attend = Callable[[Layer], None]  # attention in one layer, from r.q, r.k, r.v into r.heads


class Engine:
    """Runs one GPT-2 for up to ``n_slots`` sequences at once.

    ``weights`` is the nested dict of parameters, which is packed in memory, or a layout that
    is packed already (see ``layout.open_layout``). ``n_threads`` defaults to this process's
    share of the processors. ``unused_ids`` have a row in ``wte`` and are no token: their
    logits are -inf, and they are refused.
    """

    def __init__(
        self,
        weights: Params | Layout,
        hparams: HParams,
        n_slots: int = 1,
        *,
        n_threads: int | None = None,
        unused_ids: Iterable[int] = (),
    ):
        self.hparams = hparams
        self.unused_ids = frozenset(unused_ids)
        self.n_slots = n_slots
        self._layout = (
            weights if isinstance(weights, Layout) else layout_in_memory(weights, hparams)
        )
        self._lengths: list[int | None] = [None] * n_slots  # None: the slot is free
        self._gates: list[Gates | None] = [None] * n_slots
        threads = 1
        if 12 * hparams.n_embd**2 >= MIN_WEIGHTS_FOR_THREADS:
            threads = min(n_threads or threads_allotted(), self._layout.n_shards)
        self._team = Team(threads)
        cache, sums = Cache(self._layout, n_slots), PartialSums(self._layout, n_slots)
        self._workers = [
            ShardWorker(self._layout, cache, sums, n_slots, index, threads)
            for index in range(threads)
        ]

    def open(self, gates: Gates | None = None) -> int:
        """Take a free slot, which is empty; ``gates`` hold for it until it is closed.

        Raises InputError if no slot is free, or if the gates are those of another shape.
        """
        if gates is not None:
            gates.check(self.hparams)
        for slot, length in enumerate(self._lengths):
            if length is None:
                self._lengths[slot], self._gates[slot] = 0, gates
                return slot
        n_slots = self.n_slots
        raise InputError(f"All {n_slots} slots of this engine are taken.", n_slots=n_slots)

    def close(self, slot: int) -> None:
        """Free an open slot."""
        self.length(slot)
        self._lengths[slot] = None

    def length(self, slot: int) -> int:
        """The number of tokens in an open slot. Raises InputError if it is not open."""
        length = self._lengths[slot] if 0 <= slot < self.n_slots else None
        if length is None:
            raise InputError(f"Slot {slot} is not open.", slot=slot)
        return length

    @overload
    def prefill(
        self, slot: int, ids: Sequence[int], more_follow: Literal[False] = False
    ) -> Array: ...

    @overload
    def prefill(self, slot: int, ids: Sequence[int], more_follow: bool) -> Array | None: ...

    def prefill(self, slot: int, ids: Sequence[int], more_follow: bool = False) -> Array | None:
        """Append ``ids`` to a slot; returns the logits ``[n_vocab]`` of the token that follows.

        A prompt may be read in several calls. With ``more_follow`` the logits are not
        computed and None is returned. Raises InputError, before any computing, if ``ids`` is
        empty, does not fit, or holds an unknown id.
        """
        self._check(ids, self.length(slot))
        for start in range(0, len(ids), PREFILL_CHUNK):
            chunk = ids[start : start + PREFILL_CHUNK]
            is_end = not more_follow and start + PREFILL_CHUNK >= len(ids)
            logits = self._run(PrefillChunk(slot, self.length(slot), chunk, int(is_end)))
        return None if more_follow else logits[0]  # [n_vocab]

    def score(
        self, slot: int, ids: Sequence[int], targets: Sequence[int], n_top: int = 0
    ) -> Scores:
        """Append ``ids`` to a slot and score ``targets``: ``targets[i]`` follows ``ids[i]``.

        A text is scored with ``score(slot, text[:-1], text[1:])``, or with such parts one after
        the other; no token can score the first. ``n_top`` likeliest tokens are reported for each
        place. Never holds more than ``[SCORE_CHUNK, n_vocab]``
        logits. Raises InputError, before any computing, as :meth:`prefill` does.
        """
        if len(ids) != len(targets):
            raise InputError(f"{len(ids):,} tokens cannot be scored by {len(targets):,} others.")
        self._check(ids, self.length(slot))
        check_ids(targets, self.hparams.n_vocab, self.unused_ids)
        parts = []
        for start in range(0, len(ids), SCORE_CHUNK):
            chunk = ids[start : start + SCORE_CHUNK]
            logits = self._run(PrefillChunk(slot, self.length(slot), chunk, len(chunk)))
            parts.append(score_rows(logits, targets[start : start + SCORE_CHUNK], n_top))
        return join_scores(parts)

    def step(self, slots: Sequence[int], ids: Sequence[int]) -> Array:
        """Append ``ids[i]`` to ``slots[i]``; returns the logits ``[n_seq, n_vocab]`` after each.

        Raises InputError, before any computing, if a slot is full, not open or given twice,
        or if an id is unknown.
        """
        if not len(slots) or len(slots) != len(ids) or len(set(slots)) != len(slots):
            raise InputError("A step takes one token for each of one or more different slots.")
        lengths = [self.length(slot) for slot in slots]
        for token_id, length in zip(ids, lengths, strict=True):
            self._check([token_id], length)
        # In the order of the slots, so that neighbours in the cache share calls.
        order = np.argsort(slots)  # [n_seq]
        logits = self._run(
            DecodeBatch(
                [slots[i] for i in order], [lengths[i] for i in order], [ids[i] for i in order]
            )
        )
        in_order = (order[1:] > order[:-1]).all()
        return logits if in_order else logits[np.argsort(order)]

    def _check(self, ids: Sequence[int], length: int) -> None:
        """Raise InputError unless ``ids`` can follow ``length`` tokens."""
        n_ctx = self.hparams.n_ctx
        if length + len(ids) > n_ctx:
            raise InputError(
                f"The context of {n_ctx:,} tokens is full: it holds {length:,}, "
                f"and {len(ids):,} more do not fit.",
                "prompt",
                n_prompt_tokens=length + len(ids),
                n_ctx=n_ctx,
            )
        check_ids(ids, self.hparams.n_vocab, self.unused_ids)

    def _run(self, task: "Pass") -> Array:
        """Do one forward pass; returns its logits ``[n_logits, n_vocab]``."""
        layout, ids = self._layout, np.asarray(task.ids)  # [n_new]
        # A token's row of wte is one column of a block.
        x = layout.vocab[ids // WIDTH, :, ids % WIDTH] + layout.wpe[task.positions]
        x -= x.mean(axis=-1, keepdims=True)  # [n_new, n_embd]
        n_rows = math.prod(grouped(task.n_logits, self._workers[0].group))
        # Newly allocated, because the caller may keep what is returned.
        logits = np.empty((n_rows, len(layout.vocab) * WIDTH), np.float32)
        task.gates = row_gates([self._gates[slot] for slot in task.slots], self.hparams)
        self._team.run(lambda index: self._workers[index].run(task, x, logits, self._team))
        for slot, end in zip(task.slots, task.ends, strict=True):
            self._lengths[slot] = end
        logits = logits[: task.n_logits, : self.hparams.n_vocab]
        if self.unused_ids:
            logits[:, list(self.unused_ids)] = -np.inf
        return logits


class Cache:
    """Keys and values of every slot.

    Allocated up front; the operating system commits a page when it is first written. Keys
    are blocked as the weights are, so both products of attention run on the same kernels.
    Zeros, because positions beyond a sequence's end are multiplied too, by 0.
    """

    def __init__(self, layout: Layout, n_slots: int):
        hparams = layout.hparams
        n_head, d_head = hparams.n_head // layout.n_shards, hparams.n_embd // hparams.n_head
        blocks = n_blocks(hparams.n_ctx)
        lead = (hparams.n_layer, n_slots, layout.n_shards, n_head)
        self.keys = np.zeros((*lead, blocks, d_head, WIDTH), np.float32)
        self.values = np.zeros((*lead, blocks * WIDTH, d_head), np.float32)


class PartialSums:
    """Where shards leave their results, which every thread then adds up.

    Two buffers, ``[n_rows, n_shards, width]``, used in turn: while one thread still reads
    the last results from one, another may already write the next into the other.
    """

    def __init__(self, layout: Layout, n_slots: int):
        self.n_shards = layout.n_shards
        self.width = n_blocks(layout.hparams.n_embd) * WIDTH
        size = max_rows(n_slots) * self.n_shards * self.width
        self._flat = [np.zeros(size, np.float32) for _ in range(2)]

    def views(self, n_rows: int) -> list[Array]:
        """Both buffers as ``[n_rows, n_shards, width]``."""
        shape = (n_rows, self.n_shards, self.width)
        return [flat[: math.prod(shape)].reshape(shape) for flat in self._flat]


def max_rows(n_slots: int) -> int:
    """Rows of the largest pass, rounded up to whole groups of any size."""
    return max(PREFILL_CHUNK, n_slots) + GROUP


def grouped(n: int, group: int) -> tuple[int, int]:
    """How ``n`` rows are multiplied: ``(n_group, group)``, a few rows too many at the end."""
    n_group = max(1, -(-n // group))
    return n_group, max(MIN_ROWS, -(-n // n_group))


def split(n: int, n_threads: int, index: int) -> slice:
    """Which of ``n`` things thread ``index`` of ``n_threads`` takes."""
    return slice(n * index // n_threads, n * (index + 1) // n_threads)


class ShardWorker:
    """What one thread has: its shards of every layer, and buffers of its own."""

    def __init__(
        self,
        layout: Layout,
        cache: Cache,
        sums: PartialSums,
        n_slots: int,
        index: int,
        n_threads: int,
    ):
        hparams = layout.hparams
        self.layout, self.sums, self.index = layout, sums, index
        self.shards = shards = split(layout.n_shards, n_threads, index)
        self.n_local = shards.stop - shards.start
        self.n_head = hparams.n_head // layout.n_shards
        self.d_head = hparams.n_embd // hparams.n_head
        self.n_hidden = 4 * hparams.n_embd // layout.n_shards
        self.layers: list[Layer] = [
            {
                # [n_local, n_blocks, 1, n_in, WIDTH], [n_local, n_out], [n_embd]
                "qkv_w": layout.qkv_w[i, shards, :, None],
                "qkv_b": layout.qkv_b[i, shards],
                "proj_w": layout.proj_w[i, shards, :, None],
                "proj_b": layout.proj_b[i],
                "fc_w": layout.fc_w[i, shards, :, None],
                "fc_b": layout.fc_b[i, shards],
                "out_w": layout.out_w[i, shards, :, None],
                "out_b": layout.out_b[i],
                # [n_slots, n_local, n_head, n_blocks, d_head, WIDTH], […, n_places, d_head]
                "keys": cache.keys[i, :, shards],
                "values": cache.values[i, :, shards],
            }
            for i in range(hparams.n_layer)
        ]
        self.blocks = split(len(layout.vocab), n_threads, index)
        self.vocab = layout.vocab[self.blocks, None]  # [n_blocks, 1, n_embd, WIDTH]
        n_places = cache.values.shape[-2]
        longest = max(hparams.n_embd, self.n_hidden, n_places)
        self.group = max(2, min(GROUP, MAX_UNPACKED_PRODUCT // (WIDTH * longest)))
        self.ones = np.ones(n_places, np.float32)
        rows, d_heads = max_rows(n_slots), self.n_local * self.n_head * self.d_head
        sizes = {
            "x": hparams.n_embd,
            "sum": hparams.n_embd,
            "normed": hparams.n_embd,
            "scale": 1,
            "qkv": layout.qkv_b[0, shards].size,
            "heads": d_heads,
            "hidden": layout.fc_b[0, shards].size,
            "gelu": layout.fc_b[0, shards].size,
        }
        self.buffers = {name: np.zeros(rows * size, np.float32) for name, size in sizes.items()}
        # Those of a decode batch, each with a row of padding.
        self.queries = np.zeros(2 * n_slots * d_heads, np.float32)
        self.attn_out = np.zeros(2 * n_slots * d_heads, np.float32)
        n_scores = max(2 * n_slots * self.n_local * self.n_head, rows)
        self.scores = np.zeros(n_scores * n_places, np.float32)
        self._workspaces: dict[int, Workspace] = {}

    def workspace(self, n: int) -> "Workspace":
        """The buffers as views for a pass of ``n`` rows."""
        if n not in self._workspaces:
            self._workspaces[n] = Workspace(self, n)
        return self._workspaces[n]

    def run(self, task: "Pass", x: Array, logits: Array, team: Team) -> None:
        """This worker's part of a pass: from ``x [n_rows, n_embd]`` to columns of ``logits``."""
        r = self.workspace(len(x))
        r.x[:] = x
        attend = task.attention(self, r)
        for i, layer in enumerate(self.layers):
            gates = task.gates[i] if task.gates else None
            # Attention: queries, keys and values of this worker's heads.
            rms_normalise(r.x, r.normed, r.scale)  # [n_rows, n_embd]
            np.matmul(r.normed_in, layer["qkv_w"], out=r.qkv_out)
            r.qkv += layer["qkv_b"]  # [n_rows, n_local, 3*n_head*d_head]
            is_last = layer is self.layers[-1]
            if is_last and isinstance(task, PrefillChunk) and task.n_logits < len(r.x):
                # Of the earlier rows only keys and values are needed: the last row alone
                # goes on, if its logits are requested.
                task.write_kv(layer, r)
                if not task.n_logits:
                    return
                r = self.last_row(r)
                attend = task.last_token().attention(self, r)
            attend(layer)  # -> r.heads
            if gates:
                # [n_rows, n_head] -> [n_rows, n_local, n_head, 1]
                r.heads[: len(r.x)] *= self.local_heads(gates)
            np.matmul(r.heads_in, layer["proj_w"], out=r.proj_out)
            team.barrier(self.index)
            self.all_reduce(r, r.proj_sum, layer["proj_b"], gates.attn if gates else None)
            # Feed-forward: this worker's columns of the hidden layer.
            rms_normalise(r.x, r.normed, r.scale)  # [n_rows, n_embd]
            np.matmul(r.normed_in, layer["fc_w"], out=r.hidden_out)
            for hidden, scratch in r.hidden:
                hidden += layer["fc_b"]  # [n_rows, n_local, n_hidden]
                double_gelu(hidden, scratch)
            np.matmul(r.hidden_in, layer["out_w"], out=r.out_out)
            team.barrier(self.index)
            self.all_reduce(r, r.out_sum, layer["out_b"], gates.mlp if gates else None)
        self.find_logits(r, logits)

    def last_row(self, r: "Workspace") -> "Workspace":
        """A workspace of one row, which holds the last of ``r``'s rows."""
        last = self.workspace(1)
        last.x[:], last.qkv[:] = r.x[-1:], r.qkv[-1:]
        return last

    def find_logits(self, r: "Workspace", logits: Array) -> None:
        """Write this worker's columns of the logits of all rows."""
        rms_normalise(r.x, r.normed, r.scale)  # [n_logits, n_embd]
        r.normed *= self.layout.ln_f_g
        r.normed += self.layout.ln_f_b
        products = logits.reshape(*r.groups, -1, WIDTH).transpose(2, 0, 1, 3)
        np.matmul(r.normed_in, self.vocab, out=products[self.blocks])

    def local_heads(self, gates: RowGates) -> Array:
        """The gates of this worker's heads, ``[n_rows, n_local, n_head, 1]``."""
        heads = gates.heads.reshape(len(gates.heads), -1, self.n_head, 1)
        return heads[:, self.shards]

    def all_reduce(self, r: "Workspace", partial: Array, bias: Array, gate: Array | None) -> None:
        """Add the results of all shards ``[n_rows, n_shards, n_embd]`` to the residual stream.

        ``gate``, ``[n_rows, 1]``, multiplies what is added.
        """
        np.add.reduce(partial, axis=1, out=r.sum)
        r.sum += bias
        if gate is not None:
            r.sum *= gate
        r.x += r.sum


class Workspace:
    """A worker's buffers as views for ``n`` rows: ``…_in`` and ``…_out`` are for products."""

    def __init__(self, worker: ShardWorker, n: int):
        n_local, n_head, d_head = worker.n_local, worker.n_head, worker.d_head
        d = worker.layout.hparams.n_embd
        self.groups = n_group, group = grouped(n, worker.group)
        rows = n_group * group

        def view(name: str, *shape: int) -> Array:
            return worker.buffers[name][: math.prod(shape)].reshape(shape)

        def products(buffer: Array) -> Array:
            """``[n_rows, n_local, n_out]`` as ``[n_local, n_blocks, n_group, group, WIDTH]``."""
            blocks = buffer.reshape(n_group, group, buffer.shape[1], -1, WIDTH)
            return blocks.transpose(2, 3, 0, 1, 4)

        def factors(buffer: Array) -> Array:
            """``[n_rows, n_local, n_in]`` as ``[n_local, 1, n_group, group, n_in]``."""
            return buffer.reshape(n_group, group, n_local, 1, -1).transpose(2, 3, 0, 1, 4)

        self.x = view("x", n, d)
        self.sum = view("sum", n, d)
        self.scale = view("scale", n, 1)
        self.normed = view("normed", n, d)
        self.normed_in = view("normed", n_group, group, d)
        qkv = view("qkv", rows, n_local, worker.layers[0]["qkv_b"].shape[-1])
        self.qkv, self.qkv_out = qkv[:n], products(qkv)
        self.q, self.k, self.v = (
            qkv[:, :, : 3 * n_head * d_head]
            .reshape(rows, n_local, 3, n_head, d_head)
            .transpose(2, 0, 1, 3, 4)
        )  # each [n_rows, n_local, n_head, d_head]
        heads = view("heads", rows, n_local, n_head * d_head)
        self.heads_in = factors(heads)
        self.heads = heads.reshape(rows, n_local, n_head, d_head)
        hidden = view("hidden", rows, n_local, worker.layers[0]["fc_b"].shape[-1])
        gelu = view("gelu", *hidden.shape)
        self.hidden_out = products(hidden)
        self.hidden_in = factors(hidden[:, :, : worker.n_hidden])
        # See GELU_ROWS.
        self.hidden = [
            (hidden[i : min(n, i + GELU_ROWS)], gelu[i : min(n, i + GELU_ROWS)])
            for i in range(0, n, GELU_ROWS)
        ]
        proj, out = worker.sums.views(rows)  # [n_rows, n_shards, width] each
        self.proj_out, self.proj_sum = products(proj[:, worker.shards]), proj[:n, :, :d]
        self.out_out, self.out_sum = products(out[:, worker.shards]), out[:n, :, :d]


class Pass(ABC):
    """The tokens of one forward pass, their places in the cache, and the logits requested."""

    def __init__(
        self,
        slots: list[int],
        ids: Sequence[int],
        positions: list[int],
        ends: list[int],
        n_logits: int,
    ):
        self.slots, self.ends = slots, ends  # [n_slots] each: a slot's length after the pass
        self.ids, self.positions = ids, positions  # [n_rows] each
        self.n_logits = n_logits  # of the last rows: 0, 1 or all
        self.gates: list[RowGates] | None = None  # of each layer; a prompt's rows share one

    @abstractmethod
    def attention(self, worker: ShardWorker, r: Workspace) -> Attend:
        """A function of a layer: writes keys and values, attends, and leaves r.heads."""


class DecodeBatch(Pass):
    """One more token for each of several slots, which are in ascending order."""

    def __init__(self, slots: list[int], lengths: list[int], ids: Sequence[int]):
        super().__init__(slots, ids, lengths, [length + 1 for length in lengths], len(slots))
        self.blocks = [n_blocks(end) for end in self.ends]
        self.n_places = max(self.blocks) * WIDTH
        masked = np.arange(self.n_places) > np.array(lengths)[:, None]
        # [n_rows, 1, 1, n_places]
        self.mask = np.where(masked, np.float32(-np.inf), np.float32(0))[:, None, None]
        self.groups = list(self._slot_groups())

    def _slot_groups(self) -> Iterator[tuple[slice, slice, int]]:
        """Rows whose attention is one product, as ``(rows, slots, n_blocks)``.

        Neighbours in the cache go together, each padded to as many blocks as the longest
        has, unless the padding costs more than a call; see MAX_PADDING_BLOCKS_PER_CALL.
        """
        first = 0
        for row in range(1, len(self.slots) + 1):
            if row < len(self.slots):
                blocks = self.blocks[first : row + 1]
                padding = max(blocks) * len(blocks) - sum(blocks)
                neighbours = self.slots[row] == self.slots[row - 1] + 1
                if neighbours and padding <= MAX_PADDING_BLOCKS_PER_CALL * (len(blocks) - 1):
                    continue  # this row belongs to the group
            slots = slice(self.slots[first], self.slots[row - 1] + 1)
            yield slice(first, row), slots, max(self.blocks[first:row])
            first = row

    def attention(self, worker: ShardWorker, r: Workspace) -> Attend:
        """Attention of each row over its own slot."""
        n, ones = len(self.slots), worker.ones[: self.n_places]

        def view(buffer: Array, width: int) -> Array:
            """Index 0 is the data; index 1 is padding, so that products have MIN_ROWS rows."""
            shape = (2, n, worker.n_local, worker.n_head, width)
            return buffer[: math.prod(shape)].reshape(shape)

        queries = view(worker.queries, worker.d_head)
        attn_out = view(worker.attn_out, worker.d_head)
        scores = view(worker.scores, self.n_places)
        # Index arrays with slices between them: [n_rows, n_local, n_head, d_head] each.
        slots, positions, every = np.array(self.slots), np.array(self.positions), slice(None)
        key_at = slots, every, every, positions // WIDTH, every, positions % WIDTH
        value_at = slots, every, every, positions
        qk_products, av_products = [], []
        for rows, group_slots, blocks in self.groups:
            end = blocks * WIDTH
            group_scores = np.moveaxis(scores[:, rows, ..., :end], 0, 3)
            # [n_group, n_local, n_head, 2, n_places] -> […, n_blocks, 2, WIDTH]
            products = group_scores.reshape(*group_scores.shape[:4], blocks, WIDTH).swapaxes(3, 4)
            factors = np.moveaxis(queries[:, rows], 0, 3)[:, :, :, None]  # […, 1, 2, d_head]
            qk_products.append((factors, (group_slots, every, every, slice(blocks)), products))
            # [n_group, n_local, n_head, 2, d_head]
            group_out = np.moveaxis(attn_out[:, rows], 0, 3)
            av_products.append((group_scores, (group_slots, every, every, slice(end)), group_out))

        def attend(layer: Layer) -> None:
            keys, values = layer["keys"], layer["values"]
            keys[key_at], values[value_at] = r.k[:n], r.v[:n]
            queries[0] = r.q[:n]
            for factors, key_blocks, products in qk_products:
                np.matmul(factors, keys[key_blocks], out=products)
            np.add(scores[0], self.mask, out=scores[0])  # [n_rows, n_local, n_head, n_places]
            totals = softmax_numerators(scores[0], ones)  # [n_rows, n_local, n_head]
            for group_scores, value_rows, group_out in av_products:
                np.matmul(group_scores, values[value_rows], out=group_out)
            np.divide(attn_out[0], totals[..., None], out=r.heads[:n])

        return attend


class PrefillChunk(Pass):
    """Several more tokens for one slot."""

    def __init__(self, slot: int, length: int, ids: Sequence[int], n_logits: int):
        self.slot, self.length, self.end = slot, length, length + len(ids)
        super().__init__([slot], ids, list(range(length, self.end)), [self.end], n_logits)
        first = length // WIDTH * WIDTH  # every row may attend to all places before it
        places = np.arange(first, n_blocks(self.end) * WIDTH)
        masked = places > np.array(self.positions)[:, None]
        # [n_rows, n_places - first]
        self.mask = np.where(masked, np.float32(-np.inf), np.float32(0))

    def attention(self, worker: ShardWorker, r: Workspace) -> Attend:
        """Causal attention over the slot."""
        n, (n_group, group) = len(self.ids), r.groups
        blocks = n_blocks(self.end)
        n_places = blocks * WIDTH
        ones = worker.ones[:n_places]
        scores = worker.scores[: n_group * group * n_places].reshape(n_group, group, n_places)
        products = scores.reshape(n_group, group, blocks, WIDTH).transpose(2, 0, 1, 3)
        row_scores = scores.reshape(-1, n_places)[:n]  # [n_rows, n_places]
        maskable = row_scores[:, -self.mask.shape[1] :]  # [n_rows, n_places - first]

        def attend(layer: Layer) -> None:
            self.write_kv(layer, r)
            keys, values = layer["keys"][self.slot], layer["values"][self.slot]
            # A head at a time, so that its scores stay in the cache of the processor.
            for shard in range(worker.n_local):
                for head in range(worker.n_head):
                    q = r.q[:, shard, head].reshape(n_group, group, -1)
                    np.matmul(q, keys[shard, head, :blocks, None], out=products)
                    np.add(maskable, self.mask, out=maskable)
                    totals = softmax_numerators(row_scores, ones)  # [n_rows]
                    attn_out = r.heads[:, shard, head].reshape(n_group, group, -1)
                    np.matmul(scores, values[shard, head, :n_places], out=attn_out)
                    r.heads[:n, shard, head] /= totals[:, None]

        return attend

    def write_kv(self, layer: Layer, r: Workspace) -> None:
        """Write the keys and values of all rows to the slot."""
        n, length, end = len(self.ids), self.length, self.end
        keys, values = layer["keys"][self.slot], layer["values"][self.slot]
        values[:, :, length:end] = r.v[:n].transpose(1, 2, 0, 3)
        for block in range(length // WIDTH, n_blocks(end)):
            first, last = max(length, block * WIDTH), min(end, (block + 1) * WIDTH)
            k = r.k[first - length : last - length]  # [n_some, n_local, n_head, d_head]
            columns = slice(first - block * WIDTH, last - block * WIDTH)
            keys[:, :, block, :, columns] = k.transpose(1, 2, 3, 0)

    def last_token(self) -> DecodeBatch:
        """The last of these tokens as a decode batch of one."""
        return DecodeBatch([self.slot], [self.end - 1], self.ids[-1:])


def rms_normalise(x: Array, out: Array, scale: Array) -> None:
    """Divide rows ``[n_rows, n_embd]`` by their root mean square; ``scale`` is scratch.

    It is the layer norm without gain and shift, because the rows' means are 0 already.
    """
    np.vecdot(x, x, out=scale[:, 0])
    scale *= 1 / x.shape[-1]
    scale += EPS
    np.sqrt(scale, out=scale)
    np.divide(x, scale, out=out)


def double_gelu(x: Array, scratch: Array) -> None:
    """``x = 2 * gelu(x)`` in place; ``scratch`` has the same shape."""
    np.multiply(x, x, out=scratch)
    scratch *= CUBIC
    scratch += LINEAR
    scratch *= x
    np.tanh(scratch, out=scratch)
    scratch += 1
    x *= scratch


def softmax_numerators(scores: Array, ones: Array) -> Array:
    """``exp(scores - max)`` in place over the last axis; returns the sums to divide by."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    # A dot product with ones, because it adds up in fixed lanes: zeros at the end do not
    # change the result, as they may in np.sum.
    totals: Array = np.vecdot(scores, ones)
    return totals
