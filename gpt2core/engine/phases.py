"""The phases of a pass: how threads share the work of each, and what they wait for.

A phase is one product, or attention. It consists of independent *units*. Threads take *parts*, a
few units each, from a counter in memory, and enter the next phase when all parts are done. So no
thread waits for one that the system has not started yet, only for one that is computing a part.

Invariants: each unit is computed by one thread. Nothing here changes a number.
"""

from typing import Any

from numba import njit

from gpt2core.engine.packed import WIDTH
from gpt2core.engine.tiles import SLEEP, atomic_add, atomic_load, sleep

GROUP_ROWS = 32  # of a prompt in a unit of a product
# Looks at a counter before the thread sleeps: about 60 us, as long as a part takes. On a busy
# machine the thread that is waited for may not be running.
SPINS = 200_000


# error_model="numpy": a division by zero is infinity and no exception. An exception could not
# leave a thread that others wait for, and a loop that may raise one does not vectorize.
def compiled(function: Any = None, **options: Any) -> Any:
    """Decorates a function that ``kernels.forward`` calls."""
    decorator = njit(nogil=True, error_model="numpy", **options)
    return decorator(function) if function else decorator


@compiled
def count_units(n_blocks, n_rows):
    """The number of units of a product: one for each block and group of rows."""
    return n_blocks * ((n_rows + GROUP_ROWS - 1) // GROUP_ROWS)


@compiled
def place(unit, n_rows):
    """The columns and rows, ``(first, end)`` of each, that a unit of a product computes."""
    n_groups = count_units(1, n_rows)
    column, row = unit // n_groups * WIDTH, unit % n_groups * GROUP_ROWS
    return (column, column + WIDTH), (row, min(n_rows, row + GROUP_ROWS))


@compiled
def shared(buffers, phase, n, n_threads):
    """Yield parts of ``range(n)``, each to one of the threads; ends when all are done.

    A part is ``(first, end)``. Each thread first gets a large one, three quarters of its share,
    whose memory is read in order; then the threads take small ones, so that all end at about the
    same time. A part goes to one call of a function, not one for each number: Numba counts
    references to arrays with atomic instructions, which keep the processor from loading the next
    block early.
    """
    large, small = 3 * n // (4 * n_threads), max(1, n // (16 * n_threads))
    n_parts = n_threads + (n - n_threads * large + small - 1) // small
    part = atomic_add(buffers.taken, phase, 1) - 1
    while part < n_parts:
        if part < n_threads:
            yield large * part, large * (part + 1)
        else:
            first = large * n_threads + small * (part - n_threads)
            yield first, min(n, first + small)
        atomic_add(buffers.done, phase, 1)
        part = atomic_add(buffers.taken, phase, 1) - 1
    spins = 0
    while atomic_load(buffers.done, phase) < n_parts:
        spins += 1
        if spins > SPINS:
            sleep(SLEEP)
