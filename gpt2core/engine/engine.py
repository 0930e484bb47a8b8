"""The fast forward pass: many sequences at once, a token each a step, over a KV cache.

The numbers are those of ``model.gpt2``, the reference. Each sequence owns a *slot* of
the cache: :meth:`Engine.open` takes one, :meth:`Engine.prefill` reads a prompt into it,
:meth:`Engine.step` adds one token to each of several slots, :meth:`Engine.close` gives
it back. Sequences of any lengths run together, and come and go between any two calls.

How a pass goes: ``layout.py`` cut every layer into parts. Each thread of the team takes
its parts (a :class:`Share`) through attention, meets the others, adds up everybody's
results, and does the same with the feed-forward half: two meetings a layer. The
residual stream is small, so every thread keeps all of it.

Invariants: nothing already in the cache is computed again, and no step allocates more
because of it; float32 throughout; only positions whose logits are asked for go further
than the last layer's keys and values. In every product and sum a row's result is added
up in the same order whatever else is computed with it: the logits of a sequence do not
depend, to the last bit, on who runs beside it, on how its prompt was cut or on the
number of threads. (So it is with OpenBLAS's small-matrix kernels, which need AVX-512.)
An engine is for one thread at a time.

In shapes, ``n_share`` is the number of a share's parts, ``n_head`` that of the heads in
a part; ``n_rows`` is rounded up to ``n_group * group`` (see :func:`grouped`).
"""

import math
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from gpt2core.engine.blas import has_small_kernels
from gpt2core.engine.blas import n_threads as threads_allotted
from gpt2core.engine.layout import WIDTH, Layout, layout_in_memory, n_blocks
from gpt2core.engine.team import Team
from gpt2core.errors import InputError
from gpt2core.hparams import HParams

PREFILL_CHUNK = 128  # tokens of a prompt read at a time: bounds the buffers
CALL_COST = 8  # blocks of a slot that could be attended to while Python makes one more call
GELU_ROWS = 24  # rows of the hidden layer bent at a time
GROUP = 8  # rows in one product; more are several, each of few enough to stay small
# NumPy hands a single row to a matrix-vector routine. On blocks that is slower than the
# small-matrix kernels are with two rows, and rounds differently; faster than no kernels.
MIN_ROWS = 2 if has_small_kernels() else 1
SMALL_PRODUCT = 1_000_000  # n_rows * n_in * n_out up to which OpenBLAS packs nothing
SHARED_LAYER = 1_000_000  # weights in a layer from which a second thread is worth its while

# gelu(x) = x/2 * (1 + tanh(x * (LINEAR + CUBIC * x * x))); the layout holds the half.
LINEAR, CUBIC = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
EPS = 1e-5


class Engine:
    """Runs one GPT-2 with ``n_slots`` places for sequences.

    ``params`` is the nested dict of weights, laid out anew in memory, unless ``layout``
    (see ``layout.open_layout``) already holds them. ``n_threads`` defaults to this
    process's share of the processors.
    """

    def __init__(
        self,
        params: dict | None,
        hparams: HParams,
        n_slots: int = 1,
        *,
        layout: Layout | None = None,
        n_threads: int | None = None,
    ):
        self.hparams = hparams
        self.n_slots = n_slots
        self._layout = layout or layout_in_memory(params, hparams)
        self._lengths: list[int | None] = [None] * n_slots  # None: the slot is free
        big = 12 * hparams.n_embd**2 >= SHARED_LAYER
        threads = min(n_threads or threads_allotted(), self._layout.n_parts) if big else 1
        self._team = Team(threads)
        cache, partials = Cache(self._layout, n_slots), Partials(self._layout, n_slots)
        self._shares = [
            Share(self._layout, cache, partials, n_slots, index, threads)
            for index in range(threads)
        ]

    def open(self) -> int:
        """Take a free slot; it is empty. Raises InputError when all are taken."""
        for slot, length in enumerate(self._lengths):
            if length is None:
                self._lengths[slot] = 0
                return slot
        n_slots = self.n_slots
        raise InputError(f"All {n_slots} slots of this engine are taken.", n_slots=n_slots)

    def close(self, slot: int) -> None:
        """Give an open slot back."""
        self.length(slot)
        self._lengths[slot] = None

    def length(self, slot: int) -> int:
        """How many tokens an open slot holds. Raises InputError for one that is not open."""
        length = self._lengths[slot] if 0 <= slot < self.n_slots else None
        if length is None:
            raise InputError(f"Slot {slot} is not open.", slot=slot)
        return length

    @overload
    def prefill(
        self, slot: int, ids: Sequence[int], more_follow: Literal[False] = False
    ) -> np.ndarray: ...

    @overload
    def prefill(self, slot: int, ids: Sequence[int], more_follow: bool) -> np.ndarray | None: ...

    def prefill(
        self, slot: int, ids: Sequence[int], more_follow: bool = False
    ) -> np.ndarray | None:
        """Append ``ids`` to a slot; returns the logits ``[n_vocab]`` of the token that follows.

        A prompt may be read in several calls. With ``more_follow`` the logits are not
        computed and None is returned. Raises InputError, before any computing, if ``ids`` is
        empty, does not fit, or holds an unknown id.
        """
        self._check(ids, self.length(slot))
        for at in range(0, len(ids), PREFILL_CHUNK):
            chunk = ids[at : at + PREFILL_CHUNK]
            is_end = not more_follow and at + PREFILL_CHUNK >= len(ids)
            logits = self._run(PromptPass(slot, self._lengths[slot], chunk, is_end))
        return None if more_follow else logits[0]

    def step(self, slots: Sequence[int], ids: Sequence[int]) -> np.ndarray:
        """Append ``ids[i]`` to ``slots[i]``; logits ``[n_seq, n_vocab]`` of what follows each.

        Raises InputError, before any computing, for a slot that is full, named twice or
        not open, or an id that is not of this vocabulary.
        """
        if not len(slots) or len(slots) != len(ids) or len(set(slots)) != len(slots):
            raise InputError("A step takes one token for each of one or more different slots.")
        lengths = [self.length(slot) for slot in slots]
        for id, length in zip(ids, lengths, strict=True):
            self._check([id], length)
        order = np.argsort(slots)  # neighbours in the cache are attended to together
        ordered = (np.array(a)[order].tolist() for a in (slots, lengths, ids))
        logits = self._run(StepPass(*ordered))
        in_order = (order[1:] > order[:-1]).all()
        return logits if in_order else logits[np.argsort(order)]

    def _check(self, ids, length: int) -> None:
        """Raise InputError unless ``ids`` can follow ``length`` tokens."""
        n_vocab, n_ctx = self.hparams.n_vocab, self.hparams.n_ctx
        if len(ids) == 0:
            raise InputError("The prompt is empty: type at least one character.", "prompt")
        if length + len(ids) > n_ctx:
            raise InputError(
                f"The context of {n_ctx:,} tokens is full: it holds {length:,}, "
                f"and {len(ids):,} more do not fit.",
                "prompt",
                n_prompt_tokens=length + len(ids),
                n_ctx=n_ctx,
            )
        if min(ids) < 0 or max(ids) >= n_vocab:
            raise InputError(
                f"Token ids go from 0 to {n_vocab - 1}; one of these is outside the vocabulary.",
                "prompt",
                n_vocab=n_vocab,
            )

    def _run(self, task: "StepPass | PromptPass") -> np.ndarray:
        """Take one pass through the model; its logits ``[n_logits, n_vocab]``."""
        # What is returned is newly allocated: the caller may keep it.
        layout, ids = self._layout, np.asarray(task.ids)  # [n_new]
        # A token's row of wte is one column of a block.
        x = layout.vocab[ids // WIDTH, :, ids % WIDTH] + layout.wpe[task.positions]
        task.x = x - x.mean(axis=-1, keepdims=True)  # [n_new, n_embd]
        n_rows = math.prod(grouped(task.n_logits, self._shares[0].group))
        task.logits = np.empty((n_rows, len(layout.vocab) * WIDTH), np.float32)
        self._team.run(lambda index: self._shares[index].run(task, self._team))
        for slot, position in zip(task.slots, task.ends, strict=True):
            self._lengths[slot] = position
        return task.logits[: task.n_logits, : self.hparams.n_vocab]


class Cache:
    """Keys and values of every slot, all places allocated at once, memory taken as it fills.

    Keys lie in blocks as the weights do, so both products of attention run on the same
    kernels. Zeros, because what lies beyond a sequence's end is multiplied too (with 0).
    """

    def __init__(self, layout: Layout, n_slots: int):
        hparams = layout.hparams
        n_head, d_head = hparams.n_head // layout.n_parts, hparams.n_embd // hparams.n_head
        blocks = n_blocks(hparams.n_ctx)
        lead = (hparams.n_layer, n_slots, layout.n_parts, n_head)
        self.keys = np.zeros((*lead, blocks, d_head, WIDTH), np.float32)
        self.values = np.zeros((*lead, blocks * WIDTH, d_head), np.float32)


class Partials:
    """Where parts leave their results for all threads to add up.

    Two buffers, ``[n_rows, n_parts, width]``: while one thread still reads the last
    results from one, another may already write the next into the other.
    """

    def __init__(self, layout: Layout, n_slots: int):
        self.n_parts = layout.n_parts
        self.width = n_blocks(layout.hparams.n_embd) * WIDTH
        size = buffer_rows(n_slots) * self.n_parts * self.width
        self._flat = [np.zeros(size, np.float32) for _ in range(2)]

    def views(self, n_rows: int) -> list[np.ndarray]:
        """Both buffers as ``[n_rows, n_parts, width]``."""
        shape = (n_rows, self.n_parts, self.width)
        return [flat[: math.prod(shape)].reshape(shape) for flat in self._flat]


def buffer_rows(n_slots: int) -> int:
    """Rows that the largest pass takes, rounded up to whole groups of any size."""
    return max(PREFILL_CHUNK, n_slots) + GROUP


def grouped(n: int, group: int) -> tuple[int, int]:
    """How ``n`` rows are multiplied: ``(n_group, group)``, a few rows too many at the end."""
    n_group = max(1, -(-n // group))
    return n_group, max(MIN_ROWS, -(-n // n_group))


class Share:
    """What one of the threads has: its parts of every layer, and buffers of its own."""

    def __init__(self, layout, cache, partials, n_slots, index, n_threads):
        hparams = layout.hparams
        self.layout, self.partials, self.index = layout, partials, index
        part = slice(*(layout.n_parts * i // n_threads for i in (index, index + 1)))
        self.part, self.n_share = part, part.stop - part.start
        self.n_head = hparams.n_head // layout.n_parts
        self.d_head = hparams.n_embd // hparams.n_head
        self.n_hidden = 4 * hparams.n_embd // layout.n_parts
        self.layers = [
            {
                # [n_share, n_blocks, 1, n_in, WIDTH], [n_share, n_out], [n_embd]
                "qkv_w": layout.qkv_w[i, part, :, None],
                "qkv_b": layout.qkv_b[i, part],
                "proj_w": layout.proj_w[i, part, :, None],
                "proj_b": layout.proj_b[i],
                "fc_w": layout.fc_w[i, part, :, None],
                "fc_b": layout.fc_b[i, part],
                "out_w": layout.out_w[i, part, :, None],
                "out_b": layout.out_b[i],
                # [n_slots, n_share, n_head, n_blocks, d_head, WIDTH], […, n_places, d_head]
                "keys": cache.keys[i, :, part],
                "values": cache.values[i, :, part],
            }
            for i in range(hparams.n_layer)
        ]
        blocks = len(layout.vocab)
        self.blocks = slice(*(blocks * i // n_threads for i in (index, index + 1)))
        self.vocab = layout.vocab[self.blocks, None]  # [n_blocks, 1, n_embd, WIDTH]
        n_places = cache.values.shape[-2]
        longest = max(hparams.n_embd, self.n_hidden, n_places)
        self.group = max(2, min(GROUP, SMALL_PRODUCT // (WIDTH * longest)))
        self.ones = np.ones(n_places, np.float32)
        rows, d_heads = buffer_rows(n_slots), self.n_share * self.n_head * self.d_head
        sizes = {
            "x": hparams.n_embd,
            "sum": hparams.n_embd,
            "normed": hparams.n_embd,
            "scale": 1,
            "qkv": layout.qkv_b[0, part].size,
            "heads": d_heads,
            "hidden": layout.fc_b[0, part].size,
            "gelu": layout.fc_b[0, part].size,
        }
        self.buffers = {name: np.zeros(rows * size, np.float32) for name, size in sizes.items()}
        self.queries = np.zeros(2 * n_slots * d_heads, np.float32)
        self.mixed = np.zeros(2 * n_slots * d_heads, np.float32)
        n_scores = max(2 * n_slots * self.n_share * self.n_head, rows)
        self.scores = np.zeros(n_scores * n_places, np.float32)
        self._rows: dict[int, Rows] = {}

    def rows(self, n: int) -> "Rows":
        """The buffers, cut for a pass of ``n`` rows."""
        if n not in self._rows:
            self._rows[n] = Rows(self, n)
        return self._rows[n]

    def run(self, task: "StepPass | PromptPass", team: Team) -> None:
        """This share of a pass."""
        r = self.rows(len(task.x))
        r.x[:] = task.x
        attend = task.attention(self, r)
        for layer in self.layers:
            normalise(r.x, r.normed, r.scale)  # [n_rows, n_embd]
            np.matmul(r.normed_in, layer["qkv_w"], out=r.qkv_out)
            r.qkv += layer["qkv_b"]  # [n_rows, n_share, 3*n_head*d_head]
            if layer is self.layers[-1] and task.n_logits < len(r.x):
                # Of a prompt's rows nothing more is asked for than their keys and values.
                task.remember(layer, r)
                if not task.n_logits:
                    return
                r = self.last_row(r)
                attend = task.last_step().attention(self, r)
            attend(layer)  # -> r.heads
            np.matmul(r.heads_in, layer["proj_w"], out=r.proj_out)
            team.wait(self.index)
            self.add_up(r, r.proj_sum, layer["proj_b"])
            normalise(r.x, r.normed, r.scale)  # [n_rows, n_embd]
            np.matmul(r.normed_in, layer["fc_w"], out=r.hidden_out)
            for hidden, scratch in r.hidden:
                hidden += layer["fc_b"]  # [n_rows, n_share, n_hidden]
                gelu_twice(hidden, scratch)
            np.matmul(r.hidden_in, layer["out_w"], out=r.out_out)
            team.wait(self.index)
            self.add_up(r, r.out_sum, layer["out_b"])
        self.find_logits(r, task.logits)

    def last_row(self, r: "Rows") -> "Rows":
        """The last of ``r``'s rows as the only one, at the front of the buffers."""
        last = self.rows(1)
        last.x[:], last.qkv[:] = r.x[-1:], r.qkv[-1:]
        return last

    def find_logits(self, r: "Rows", logits: np.ndarray) -> None:
        """This share's columns of the logits of all rows."""
        normalise(r.x, r.normed, r.scale)  # [n_logits, n_embd]
        r.normed *= self.layout.ln_f_g
        r.normed += self.layout.ln_f_b
        products = logits.reshape(*r.groups, -1, WIDTH).transpose(2, 0, 1, 3)
        np.matmul(r.normed_in, self.vocab, out=products[self.blocks])

    def add_up(self, r: "Rows", parts: np.ndarray, bias: np.ndarray) -> None:
        """Add all parts' results ``[n_rows, n_parts, n_embd]`` to the residual stream."""
        np.add.reduce(parts, axis=1, out=r.sum)
        r.x += r.sum
        r.x += bias


class Rows:
    """A share's buffers as views for ``n`` rows: ``…_in`` and ``…_out`` are for products."""

    def __init__(self, share: Share, n: int):
        n_share, n_head, d_head = share.n_share, share.n_head, share.d_head
        d = share.layout.hparams.n_embd
        self.groups = n_group, group = grouped(n, share.group)
        rows = n_group * group

        def view(name, *shape):
            return share.buffers[name][: math.prod(shape)].reshape(shape)

        def products(buffer):
            """``[n_rows, n_share, n_out]`` as ``[n_share, n_blocks, n_group, group, WIDTH]``."""
            split = buffer.reshape(n_group, group, buffer.shape[1], -1, WIDTH)
            return split.transpose(2, 3, 0, 1, 4)

        def factors(buffer):
            """``[n_rows, n_share, n_in]`` as ``[n_share, 1, n_group, group, n_in]``."""
            split = buffer.reshape(n_group, group, n_share, 1, -1)
            return split.transpose(2, 3, 0, 1, 4)

        self.x = view("x", n, d)
        self.sum = view("sum", n, d)
        self.scale = view("scale", n, 1)
        self.normed = view("normed", n, d)
        self.normed_in = view("normed", n_group, group, d)
        qkv = view("qkv", rows, n_share, share.layers[0]["qkv_b"].shape[-1])
        self.qkv, self.qkv_out = qkv[:n], products(qkv)
        self.q, self.k, self.v = (
            qkv[:, :, : 3 * n_head * d_head]
            .reshape(rows, n_share, 3, n_head, d_head)
            .transpose(2, 0, 1, 3, 4)
        )  # each [n_rows, n_share, n_head, d_head]
        heads = view("heads", rows, n_share, n_head * d_head)
        self.heads_in = factors(heads)
        self.heads = heads.reshape(rows, n_share, n_head, d_head)
        hidden = view("hidden", rows, n_share, share.layers[0]["fc_b"].shape[-1])
        gelu = view("gelu", *hidden.shape)
        self.hidden_out = products(hidden)
        self.hidden_in = factors(hidden[:, :, : share.n_hidden])
        # A few rows at a time, so that they stay in the processor's cache for all of gelu.
        self.hidden = [
            (hidden[i : min(n, i + GELU_ROWS)], gelu[i : min(n, i + GELU_ROWS)])
            for i in range(0, n, GELU_ROWS)
        ]
        proj, out = share.partials.views(rows)  # [n_rows, n_parts, width]
        self.proj_out, self.proj_sum = products(proj[:, share.part]), proj[:n, :, :d]
        self.out_out, self.out_sum = products(out[:, share.part]), out[:n, :, :d]


class StepPass:
    """One more token for each of several slots, which come in ascending order."""

    def __init__(self, slots: list[int], lengths: list[int], ids):
        self.slots, self.positions, self.ids = slots, lengths, ids
        self.ends = [length + 1 for length in lengths]
        self.n_logits = len(slots)
        self.blocks = [n_blocks(end) for end in self.ends]
        self.n_places = max(self.blocks) * WIDTH
        unseen = np.arange(self.n_places) > np.array(lengths)[:, None]
        # [n_rows, 1, 1, n_places]
        self.mask = np.where(unseen, np.float32(-np.inf), np.float32(0))[:, None, None]
        self.runs = list(self._runs())

    def _runs(self):
        """Rows whose attention is one product, as ``(rows, slots, n_blocks)``.

        Neighbours in the cache go together, each over as many blocks as the longest has,
        unless that wastes more than a call of its own would cost.
        """
        first = 0
        for row in range(1, len(self.slots) + 1):
            if row < len(self.slots):
                run = self.blocks[first : row + 1]
                waste = max(run) * len(run) - sum(run)
                neighbours = self.slots[row] == self.slots[row - 1] + 1
                if neighbours and waste <= CALL_COST * (len(run) - 1):
                    continue
            run_slots = slice(self.slots[first], self.slots[row - 1] + 1)
            yield slice(first, row), run_slots, max(self.blocks[first:row])
            first = row

    def attention(self, share: Share, r: Rows):
        """A function of a layer: attention of each row over its own slot, into ``r.heads``."""
        n, ones = len(self.slots), share.ones[: self.n_places]

        def view(buffer, width):
            """Two of everything: the second is there to be multiplied; see MIN_ROWS."""
            shape = (2, n, share.n_share, share.n_head, width)
            return buffer[: math.prod(shape)].reshape(shape)

        queries, mixed = view(share.queries, share.d_head), view(share.mixed, share.d_head)
        scores = view(share.scores, self.n_places)
        # Index arrays with slices between them: [n_rows, n_share, n_head, d_head] each.
        slots, positions, every = np.array(self.slots), np.array(self.positions), slice(None)
        key_at = slots, every, every, positions // WIDTH, every, positions % WIDTH
        value_at = slots, every, every, positions
        scoring, mixing = [], []
        for rows, run_slots, n_run_blocks in self.runs:
            end = n_run_blocks * WIDTH
            run_scores = np.moveaxis(scores[:, rows, ..., :end], 0, 3)
            # [n_run, n_share, n_head, 2, n_places] -> […, n_blocks, 2, WIDTH]
            products = run_scores.reshape(*run_scores.shape[:4], n_run_blocks, WIDTH).swapaxes(3, 4)
            factors = np.moveaxis(queries[:, rows], 0, 3)[:, :, :, None]  # […, 1, 2, d_head]
            scoring.append((factors, (run_slots, every, every, slice(n_run_blocks)), products))
            run_mixed = np.moveaxis(mixed[:, rows], 0, 3)  # [n_run, n_share, n_head, 2, d_head]
            mixing.append((run_scores, (run_slots, every, every, slice(end)), run_mixed))

        def attend(layer):
            keys, values = layer["keys"], layer["values"]
            keys[key_at], values[value_at] = r.k[:n], r.v[:n]
            queries[0] = r.q[:n]
            for factors, at, products in scoring:
                np.matmul(factors, keys[at], out=products)
            np.add(scores[0], self.mask, out=scores[0])  # [n_rows, n_share, n_head, n_places]
            weights = softmax_numerators(scores[0], ones)  # [n_rows, n_share, n_head]
            for run_scores, at, products in mixing:
                np.matmul(run_scores, values[at], out=products)
            np.divide(mixed[0], weights[..., None], out=r.heads[:n])

        return attend


class PromptPass:
    """Several more tokens for one slot."""

    def __init__(self, slot: int, length: int, ids, is_end: bool):
        self.slot, self.slots, self.ids = slot, [slot], ids
        self.length, self.end = length, length + len(ids)
        self.positions = np.arange(length, self.end)
        self.ends = [self.end]
        self.n_logits = int(is_end)
        first = length // WIDTH * WIDTH  # places before it are seen by all
        places = np.arange(first, n_blocks(self.end) * WIDTH)
        unseen = places > self.positions[:, None]
        # [n_rows, n_places - first]
        self.mask = np.where(unseen, np.float32(-np.inf), np.float32(0))

    def attention(self, share: Share, r: Rows):
        """A function of a layer: causal attention over the slot, into ``r.heads``."""
        n, (n_group, group) = len(self.ids), r.groups
        blocks = n_blocks(self.end)
        n_places = blocks * WIDTH
        ones = share.ones[:n_places]
        scores = share.scores[: n_group * group * n_places].reshape(n_group, group, n_places)
        products = scores.reshape(n_group, group, blocks, WIDTH).transpose(2, 0, 1, 3)
        seen = scores.reshape(-1, n_places)[:n]  # [n_rows, n_places]
        recent = seen[:, -self.mask.shape[1] :]

        def attend(layer):
            self.remember(layer, r)
            keys, values = layer["keys"][self.slot], layer["values"][self.slot]
            for part in range(share.n_share):  # a head at a time: its scores stay in the cache
                for head in range(share.n_head):
                    q = r.q[:, part, head].reshape(n_group, group, -1)
                    np.matmul(q, keys[part, head, :blocks, None], out=products)
                    np.add(recent, self.mask, out=recent)
                    weights = softmax_numerators(seen, ones)  # [n_rows]
                    mixed = r.heads[:, part, head].reshape(n_group, group, -1)
                    np.matmul(scores, values[part, head, :n_places], out=mixed)
                    r.heads[:n, part, head] /= weights[:, None]

        return attend

    def remember(self, layer, r: Rows) -> None:
        """Put the keys and values of all rows into the slot."""
        n, length, end = len(self.ids), self.length, self.end
        keys, values = layer["keys"][self.slot], layer["values"][self.slot]
        values[:, :, length:end] = r.v[:n].transpose(1, 2, 0, 3)
        for block in range(length // WIDTH, n_blocks(end)):
            first, last = max(length, block * WIDTH), min(end, (block + 1) * WIDTH)
            k = r.k[first - length : last - length]  # [n_some, n_share, n_head, d_head]
            at = slice(first - block * WIDTH, last - block * WIDTH)
            keys[:, :, block, :, at] = k.transpose(1, 2, 3, 0)

    def last_step(self) -> StepPass:
        """The last of these tokens as if it alone came next."""
        return StepPass([self.slot], [self.end - 1], self.ids[-1:])


def normalise(x: np.ndarray, out: np.ndarray, scale: np.ndarray) -> None:
    """Rows of mean zero ``[n_rows, n_embd]`` divided by their deviation: a bare layer norm."""
    np.vecdot(x, x, out=scale[:, 0])
    scale *= 1 / x.shape[-1]
    scale += EPS
    np.sqrt(scale, out=scale)
    np.divide(x, scale, out=out)


def gelu_twice(x: np.ndarray, t: np.ndarray) -> None:
    """``x = 2 * gelu(x)`` in place; ``t`` is scratch of the same shape."""
    np.multiply(x, x, out=t)
    t *= CUBIC
    t += LINEAR
    t *= x
    np.tanh(t, out=t)
    t += 1
    x *= t


def softmax_numerators(scores: np.ndarray, ones: np.ndarray) -> np.ndarray:
    """``exp(scores - max)`` in place over the last axis; returns what to divide by."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    # A dot product adds up in lanes: zeros at the end change nothing, as a sum's would.
    return np.vecdot(scores, ones)
