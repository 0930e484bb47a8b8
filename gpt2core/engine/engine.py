"""The fast forward pass: many sequences at once, a token each a step, over a KV cache.

The numbers are those of ``model.gpt2``, the reference. Each sequence owns a *slot* of the
cache: :meth:`Engine.open` takes a free one, :meth:`Engine.prefill` reads a prompt into it,
:meth:`Engine.step` appends one token to each of several slots, and :meth:`Engine.close`
frees it. Sequences of any lengths run together, and come and go between any two calls.

A pass computes a few *rows*, each a new token at its place in its slot: one row for each of
several slots (a decode step), or several places of one slot (a chunk of a prompt). The same
function runs both: ``kernels.forward``, compiled, which all threads of the engine enter
together, or ``plain.forward``, which defines it. ``plain.py`` shows the data flow of a layer
and lists the buffers with their shapes, ``packed.py`` the weights.

Invariants: nothing in the cache is computed again, and a step allocates no more for a longer
text. All arrays are float32, except int8 weights and the int16 activations that these multiply.
Positions whose logits are not requested stop at the last layer's keys and values. The kernels
add up every number in the same order whatever other rows there are: the logits of a sequence do
not depend, to the last bit, on the sequences beside it, on how its prompt was cut or on the
number of threads. (The plain functions differ in the last bits.) One thread at a time may use
an engine.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from gpt2core.engine import compiling, plain
from gpt2core.engine.gates import Gates, row_gates
from gpt2core.engine.packed import WIDTH, PackedWeights, pack
from gpt2core.engine.plain import Task, make_buffers, make_cache
from gpt2core.engine.processors import n_threads as threads_allotted
from gpt2core.engine.scores import Scores, join_scores, score_rows
from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_ids
from gpt2core.model import Params

PREFILL_CHUNK = 128  # tokens of a prompt in one pass: bounds the buffers
SCORE_CHUNK = 32  # tokens in one pass with the logits of all: bounds the memory these take
# Loading compiled kernels takes a second, in which a smaller model writes a text without them.
# (A server loads them for every model.)
MIN_PARAMS_FOR_KERNELS = 50_000_000
MIN_WEIGHTS_FOR_THREADS = 1_000_000  # of a layer; with fewer, threads cost more than they gain

Array = NDArray[np.float32]


class Engine:
    """Runs one GPT-2 for up to ``n_slots`` sequences at once.

    ``weights`` is the nested dict of parameters, which is packed in memory, or packed weights.
    ``n_threads`` defaults to this process's share of the processors. ``unused_ids`` have a row
    in ``wte`` and are no token: their logits are -inf, and they are refused.
    """

    def __init__(
        self,
        weights: Params | PackedWeights,
        hparams: HParams,
        n_slots: int = 1,
        *,
        n_threads: int | None = None,
        unused_ids: Iterable[int] = (),
    ):
        self.hparams = hparams
        self.unused_ids = frozenset(unused_ids)
        self.n_slots = n_slots
        self._weights = weights if isinstance(weights, PackedWeights) else pack(weights, hparams)
        self._lengths: list[int | None] = [None] * n_slots  # None: the slot is free
        self._gates: list[Gates | None] = [None] * n_slots
        self._n_threads = 1
        if 12 * hparams.n_embd**2 >= MIN_WEIGHTS_FOR_THREADS:
            self._n_threads = n_threads or threads_allotted()
        # Its threads start with the first pass, which is after any fork.
        self._pool = ThreadPoolExecutor(max(1, self._n_threads - 1), "engine")
        self._cache = make_cache(hparams, n_slots)
        self._buffers = make_buffers(hparams, max(PREFILL_CHUNK, n_slots), self._n_threads)
        if hparams.n_params >= MIN_PARAMS_FOR_KERNELS:
            compiling.start()

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
            logits = self._prefill_chunk(slot, chunk, int(is_end))
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
            logits = self._prefill_chunk(slot, chunk, len(chunk))
            parts.append(score_rows(logits, targets[start : start + SCORE_CHUNK], n_top))
        return join_scores(parts)

    def step(
        self, slots: Sequence[int], ids: Sequence[int], meanwhile: Callable[[], None] = lambda: None
    ) -> Array:
        """Append ``ids[i]`` to ``slots[i]``; returns the logits ``[n_seq, n_vocab]`` after each.

        ``meanwhile`` is called once the engine's other threads compute, before this one does.
        Raises InputError, before any computing, if a slot is full, not open or given twice,
        or if an id is unknown.
        """
        if not len(slots) or len(slots) != len(ids) or len(set(slots)) != len(slots):
            raise InputError("A step takes one token for each of one or more different slots.")
        lengths = [self.length(slot) for slot in slots]
        for token_id, length in zip(ids, lengths, strict=True):
            self._check([token_id], length)
        return self._run(ids, slots, lengths, len(ids), meanwhile)

    def _prefill_chunk(self, slot: int, ids: Sequence[int], n_logits: int) -> Array:
        first = self.length(slot)
        return self._run(ids, [slot] * len(ids), range(first, first + len(ids)), n_logits)

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

    def _run(
        self,
        ids: Sequence[int],
        slots: Sequence[int],
        positions: Sequence[int],
        n_logits: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Array:
        """Do one forward pass; returns the logits ``[n_logits, n_vocab]`` of the last rows."""
        gates = row_gates([self._gates[slot] for slot in slots], self.hparams)
        task = Task(
            np.array(ids, np.int64),
            np.array(slots, np.int64),
            np.array(positions, np.int64),
            n_logits,
            *gates,
        )
        # Newly allocated, because the caller may keep what is returned.
        logits = np.empty((n_logits, len(self._weights.vocab_w) * WIDTH), np.float32)
        self._compute(task, logits, meanwhile)
        for slot, position in zip(slots, positions, strict=True):
            self._lengths[slot] = position + 1
        logits = logits[:, : self.hparams.n_vocab]
        if self.unused_ids:
            logits[:, list(self.unused_ids)] = -np.inf
        return logits

    def _compute(self, task: Task, logits: Array, meanwhile: Callable[[], None]) -> None:
        """Run the pass on all threads with the kernels, or in plain NumPy."""
        kernels, buffers, n_head = compiling.kernels(), self._buffers, self.hparams.n_head
        if kernels is None:
            meanwhile()
            plain.forward(task, self._weights, self._cache, logits, n_head)
            return
        run = partial(kernels.forward, task, self._weights, self._cache, buffers, logits, n_head)
        buffers.taken[:], buffers.done[:] = 0, 0
        others: list[Future[None]] = []
        try:
            for thread in range(1, self._n_threads):
                others.append(self._pool.submit(run, thread, self._n_threads))
            meanwhile()
            run(0, self._n_threads)
        finally:
            # A thread that has not begun yet has nothing left to do.
            wait([one for one in others if not one.cancel()])
