"""Recorded passes of this process: one is made at a time, a few are kept.

A recording takes the CPU from the sequences that the engine decodes, so at most one runs in
a process, in a thread of low priority (on Linux, where a thread has a priority of its own): it
uses what the engine leaves idle. While texts are generated, BLAS gets one thread: its others
would have the engine's priority, and would wait actively for each other. A request that waits
longer than ``PATIENCE`` is answered with 503. The cache only saves time: a recording depends on
the model and the ids alone, so every process gives the same answer, with a warm cache or a cold
one. (OpenBLAS's kernels for processors without AVX-512 may change a last bit with the threads.)
"""

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from gpt2core.engine.events import Unavailable
from gpt2core.inside.recorder import Trace
from gpt2core.inside.recording import (
    Block,
    Recording,
    check_ids,
    record_pass,
    replay_block,
    replay_unembed,
)
from gpt2core.store.loader import Model

PATIENCE = 5.0  # seconds that a request waits while another text is recorded
NICENESS = 10  # of the recording thread
MAX_BYTES = 64 * 2**20  # of the recordings that are kept, if there is more than one
Key = tuple[str, tuple[int, ...]]
T = TypeVar("T")


class Recordings:
    """Records texts, one at a time, and keeps the newest within ``max_bytes``.

    ``is_generating`` says whether the engine has work, which goes first.
    """

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        patience: float = PATIENCE,
        is_generating: Callable[[], bool] = lambda: False,
    ):
        self.max_bytes, self.patience, self._is_generating = max_bytes, patience, is_generating
        self._running = threading.Lock()
        # Its thread starts with the first recording, which is after any fork.
        self._thread = ThreadPoolExecutor(1, "recording", initializer=lower_priority)
        self._kept: OrderedDict[Key, Recording] = OrderedDict()  # least recently used first
        self._kept_lock = threading.Lock()

    def get(self, model: Model, ids: Sequence[int]) -> Recording:
        """The recorded pass of ``model`` over ``ids``.

        Raises InputError for ids that cannot be recorded, Unavailable where another text is
        being recorded for longer than the patience.
        """
        check_ids(ids, model.hparams.n_vocab, model.hparams.n_ctx)
        key = (model.name, tuple(ids))
        if found := self._find(key):
            return found
        return self.in_turn(lambda: self._find(key) or self._record(model, key))

    def replay_block(self, recording: Recording, layer: int) -> Block:
        """All values of one layer. Raises Unavailable, as :meth:`get` does."""
        return self.in_turn(lambda: replay_block(recording, layer))

    def replay_unembed(self, recording: Recording) -> Trace:
        """All values of the end of the pass. Raises Unavailable, as :meth:`get` does."""
        return self.in_turn(lambda: replay_unembed(recording))

    @property
    def nbytes(self) -> int:
        """Bytes of the recordings that are kept."""
        with self._kept_lock:
            return sum(recording.nbytes for recording in self._kept.values())

    def in_turn(self, compute: Callable[[], T]) -> T:
        """The result of ``compute``, while nothing else is recorded. Raises Unavailable."""
        if not self._running.acquire(timeout=self.patience):
            raise Unavailable(
                "Another text is being looked into; try again in a moment.", 5, "busy"
            )
        try:
            return self._thread.submit(self._compute, compute).result()
        finally:
            self._running.release()

    def _compute(self, compute: Callable[[], T]) -> T:
        """The result of ``compute``, with one thread of BLAS while texts are generated."""
        if not self._is_generating():
            return compute()
        with blas().limit(limits=1, user_api="blas"):
            return compute()

    def _record(self, model: Model, key: Key) -> Recording:
        recording = record_pass(key[1], model.params, model.hparams.n_head)
        self._keep(key, recording)
        return recording

    def _find(self, key: Key) -> Recording | None:
        with self._kept_lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: Key, recording: Recording) -> None:
        """Keep ``recording``; drop the least recently used until the rest fit.

        The newest is kept whatever its size: of a large model one recording may take more
        than ``max_bytes``, and the next selection in the same text needs it again.
        """
        with self._kept_lock:
            self._kept[key] = recording
            total = sum(kept.nbytes for kept in self._kept.values())
            while total > self.max_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                total -= dropped.nbytes


@cache
def blas() -> ThreadpoolController:
    """The control of the number of BLAS's threads, which is one for the whole process."""
    return ThreadpoolController()


def lower_priority() -> None:
    """Let all other threads of this process go first, on Linux."""
    if sys.platform == "linux":  # elsewhere this would be the priority of the process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
