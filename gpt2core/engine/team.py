"""A few threads that work through one job in step.

NumPy releases the interpreter while it multiplies, so Python threads can share a
product that BLAS would leave to one. The engine hands :meth:`Team.run` a function; each
thread calls it with its own index and meets the others at :meth:`Team.wait`.

Invariants: one job at a time; :meth:`Team.run` returns, or raises, only when every
thread is idle again; threads start with the first job (after a fork, that is) and end
with the team.
"""

import threading
import weakref
from queue import SimpleQueue


class Cancelled(Exception):
    """Raised in a thread that waits for one that failed."""


class Team:
    """``n`` threads, the caller's own included; with ``n == 1`` there are no others."""

    def __init__(self, n: int):
        self.n = n
        self._jobs = [SimpleQueue() for _ in range(n - 1)]
        self._started = False
        self._clear_meeting()

    def run(self, job) -> None:
        """Call ``job(index)`` in every thread, index 0 in this one. Raises what any raised."""
        if self.n == 1:
            return job(0)
        if not self._started:
            self._start()
        # A queue for this job alone: after an interrupt no old answer is taken for a new one.
        results: SimpleQueue = SimpleQueue()
        for jobs in self._jobs:
            jobs.put((job, self._tokens, results))
        failures = [attempt(job, self._tokens, 0)]
        failures += [results.get() for _ in self._jobs]
        failures = [f for f in failures if f is not None]
        if failures:
            self._clear_meeting()
            raise next((f for f in failures if not isinstance(f, Cancelled)), failures[0])

    def wait(self, index: int) -> None:
        """Go on only when every thread has come here; thread ``index`` has."""
        others = [i for i in range(self.n) if i != index]
        for other in others:
            self._tokens[index][other].put(True)
        for other in others:
            if not self._tokens[other][index].get():
                raise Cancelled

    def _clear_meeting(self) -> None:
        # tokens[a][b] carries "a has arrived" to b. A pair has a queue of its own, so
        # that one thread's second arrival is never taken for another's first.
        self._tokens = [[SimpleQueue() for _ in range(self.n)] for _ in range(self.n)]

    def _start(self) -> None:
        for index, jobs in enumerate(self._jobs, start=1):
            name = f"team-{index}"
            threading.Thread(target=work, args=(index, jobs), name=name, daemon=True).start()
        weakref.finalize(self, dismiss, self._jobs)
        self._started = True


def work(index: int, jobs: SimpleQueue) -> None:
    """A thread's life. It knows queues only, so it does not keep its team alive."""
    while (order := jobs.get()) is not None:
        job, tokens, results = order
        result = attempt(job, tokens, index)
        del order, job  # which hold the engine
        results.put(result)


def attempt(job, tokens, index):
    """Call ``job(index)``; what it raised, or None. Frees those who would wait for it."""
    try:
        job(index)
    except BaseException as error:  # KeyboardInterrupt too: the others must not hang
        for queue in tokens[index]:
            queue.put(False)
        return error
    return None


def dismiss(jobs: list[SimpleQueue]) -> None:
    """Let the threads behind ``jobs`` end."""
    for queue in jobs:
        queue.put(None)
