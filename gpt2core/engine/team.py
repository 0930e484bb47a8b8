"""A team of threads that work through one job in step.

NumPy releases the interpreter while it multiplies, so Python threads can share a product
that BLAS would compute in one. The engine hands :meth:`Team.run` a function; each thread
calls it with its own index and waits for the others at :meth:`Team.barrier`.

Invariants: one job at a time. :meth:`Team.run` returns, or raises, only when every thread is
idle again. Threads start with the first job (after any fork) and end with the team.
"""

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[int], None]
Arrivals = list[list[SimpleQueue[bool]]]  # [from][to]: True has arrived, False has failed
Results = SimpleQueue[BaseException | None]
Jobs = SimpleQueue[tuple[Job, Arrivals, Results] | None]  # None ends the thread


class BrokenBarrier(Exception):
    """Raised in a thread that waits at a barrier for one that failed."""


class Team:
    """``n`` threads, the caller's own included; with ``n == 1`` there are no others."""

    def __init__(self, n: int):
        self.n = n
        self._jobs: list[Jobs] = [SimpleQueue() for _ in range(n - 1)]
        self._started = False
        self._reset_barrier()

    def run(self, job: Job) -> None:
        """Call ``job(index)`` in every thread, index 0 in this one. Raises what any raised."""
        if self.n == 1:
            job(0)
            return
        if not self._started:
            self._start()
        # A queue for this job alone: after an interrupt, a late result of the job before
        # cannot be mistaken for one of this job.
        results: Results = SimpleQueue()
        for jobs in self._jobs:
            jobs.put((job, self._arrivals, results))
        failures = [run_job(job, self._arrivals, 0)]
        failures += [results.get() for _ in self._jobs]
        errors = [failure for failure in failures if failure is not None]
        if errors:
            self._reset_barrier()
            raise next((e for e in errors if not isinstance(e, BrokenBarrier)), errors[0])

    def barrier(self, index: int) -> None:
        """Wait until every thread has arrived; called by thread ``index``.

        Raises BrokenBarrier if another thread failed. (``threading.Barrier``, which has one
        lock for all threads, takes 2.6 times as long.)
        """
        others = [i for i in range(self.n) if i != index]
        for other in others:
            self._arrivals[index][other].put(True)
        for other in others:
            if not self._arrivals[other][index].get():
                raise BrokenBarrier

    def _reset_barrier(self) -> None:
        # A queue for each pair of threads, so that the second arrival of one thread is never
        # mistaken for the first of another.
        self._arrivals: Arrivals = [[SimpleQueue() for _ in range(self.n)] for _ in range(self.n)]

    def _start(self) -> None:
        for index, jobs in enumerate(self._jobs, start=1):
            name = f"team-{index}"
            threading.Thread(target=worker_loop, args=(index, jobs), name=name, daemon=True).start()
        weakref.finalize(self, shut_down, self._jobs)
        self._started = True


def worker_loop(index: int, jobs: Jobs) -> None:
    """Run jobs until None comes. The thread holds only queues, so it does not keep its team."""
    while (message := jobs.get()) is not None:
        job, arrivals, results = message
        result = run_job(job, arrivals, index)
        del message, job  # they hold the engine
        results.put(result)


def run_job(job: Job, arrivals: Arrivals, index: int) -> BaseException | None:
    """Call ``job(index)``; returns what it raised, or None. A failure breaks the barrier."""
    try:
        job(index)
    except BaseException as error:  # KeyboardInterrupt too: the others must not hang
        for queue in arrivals[index]:
            queue.put(False)
        return error
    return None


def shut_down(jobs: list[Jobs]) -> None:
    """End the threads that wait for ``jobs``."""
    for queue in jobs:
        queue.put(None)
