"""What the kernels are made of: tiles and atomics, written in LLVM's terms, and shared phases.

A *tile* multiplies a few rows with 16 or 64 columns, and adds up in registers. It is made of
LLVM's vectors of 16 floats, so one source serves every processor: such a vector is one
register of AVX-512, two of AVX2, four of NEON. While it multiplies, it prefetches what the
tiles of the next weights will read.

Invariant: a tile adds up every output over ``n`` one element after the other, in one accumulator,
with the same instruction. So no bit of it depends on the tile's size.
"""

import ctypes
import sys
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gpt2core.engine.packed import WIDTH
from gpt2core.engine.plain import TILE_ROWS

LANES = 16  # floats in a vector
CACHE_LINE = 64  # bytes
FLOAT, INT, INT32, BYTE = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES)
BYTES = ir.VectorType(BYTE, LANES)

_, _, cpu_features = cpu_target.target_context.codegen().magic_tuple()
WIDE = "+avx512f" in cpu_features
# The sums of 4 rows and 64 columns take 16 of the 32 registers of AVX-512; those of 4 rows and 16
# columns take 8 of the 16 of AVX2.
TILE_COLUMNS = WIDTH if WIDE else LANES


def make_tile(n_rows: int, n_columns: int) -> Any:
    """``tile(x, x_stride, w, w_address, w_stride, n, out, out_stride, next_w)``, an intrinsic.

    Adds ``x @ w`` to ``out``: ``x`` is the address of ``[n_rows, n]`` floats, ``w_address`` that
    of ``[n, n_columns]`` elements of the array ``w``'s type, ``out`` that of ``[n_rows,
    n_columns]`` floats. Strides are bytes from row to row; ``n`` is at least 1. As many bytes
    from ``next_w`` on as the tile reads of ``w`` are prefetched into the second cache.
    """
    rows, vectors = range(n_rows), range(n_columns // LANES)

    @intrinsic
    def tile(typing, x, x_stride, w, w_address, w_stride, n, out, out_stride, next_w):
        is_int8 = w.dtype == types.int8
        w_bytes = n_columns * (1 if is_int8 else 4)  # of a row of the tile

        def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, x_stride, _, w, w_stride, n, out, out_stride, next_w = args
            multiply_add = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(FLOATS, [FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
            )
            prefetch = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), *[INT32] * 3]),
                "llvm.prefetch.p0",
            )  # fmt: skip

            def pointer(address: Any, offset: int, kind: Any) -> Any:
                return b.inttoptr(b.add(address, INT(offset)), kind.as_pointer())

            def weights(address: Any, v: int) -> Any:
                if not is_int8:
                    return b.load(pointer(address, 4 * LANES * v, FLOATS), align=4)
                elements = b.load(pointer(address, LANES * v, BYTES), align=1)
                return b.sitofp(b.sext(elements, INTS), FLOATS)

            def broadcast(value: Any) -> Any:
                undefined = ir.Constant(FLOATS, ir.Undefined)
                one = b.insert_element(undefined, value, INT32(0))
                return b.shuffle_vector(one, undefined, ir.Constant(INTS, [0] * LANES))

            x_rows = [b.add(x, b.mul(x_stride, INT(r))) for r in rows]
            out_rows = [b.add(out, b.mul(out_stride, INT(r))) for r in rows]
            places = [[pointer(out_rows[r], 4 * LANES * v, FLOATS) for v in vectors] for r in rows]
            begun = [[b.load(place, align=4) for place in row] for row in places]
            before = b.block
            loop, done = b.append_basic_block("loop"), b.append_basic_block("done")
            b.branch(loop)
            # One pass of the loop: element i of each row of x, row i of w.
            b.position_at_end(loop)
            i, w_row = b.phi(INT), b.phi(INT)
            sums = [[b.phi(FLOATS) for _ in vectors] for _ in rows]
            next_row = b.add(next_w, b.mul(i, INT(w_bytes)))
            for offset in range(0, w_bytes, CACHE_LINE):
                # To be read (0), with locality 2, which is the second cache; data (1).
                b.call(prefetch, [pointer(next_row, offset, BYTE), INT32(0), INT32(2), INT32(1)])
            w_vectors = [weights(w_row, v) for v in vectors]
            added = []
            for r in rows:
                place = b.add(x_rows[r], b.mul(i, INT(4)))
                factor = broadcast(b.load(b.inttoptr(place, FLOAT.as_pointer())))
                added.append(
                    [b.call(multiply_add, [factor, w_vectors[v], sums[r][v]]) for v in vectors]
                )
            i_next, w_next = b.add(i, INT(1)), b.add(w_row, w_stride)
            for phi, first, following in [
                (i, INT(0), i_next),
                (w_row, w, w_next),
                *((sums[r][v], begun[r][v], added[r][v]) for r in rows for v in vectors),
            ]:
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            b.cbranch(b.icmp_signed("<", i_next, n), loop, done)
            b.position_at_end(done)
            for r in rows:
                for v in vectors:
                    b.store(added[r][v], places[r][v], align=4)
            return context.get_dummy_value()

        address = types.intp
        return types.void(address, address, w, *[address] * 6), generate

    return tile


one_row = make_tile(1, WIDTH)
four_rows = make_tile(TILE_ROWS, TILE_COLUMNS)


@intrinsic
def atomic_add(typing, array, index, value):
    """Add to ``array[index]`` (int64) and return the new number, seen by all threads at once."""

    def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        old = b.atomic_rmw("add", b.gep(data, [args[1]]), args[2], "seq_cst")
        return b.add(old, args[2])

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def atomic_load(typing, array, index):
    """``array[index]`` (int64) as other threads left it."""

    def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        return b.load_atomic(b.gep(data, [args[1]]), "acquire", 8)

    return types.int64(array, types.intp), generate


# The system's function that lets other threads run, under a name that is the same everywhere.
if sys.platform == "win32":
    SLEEP, _sleep = 0, ctypes.windll.kernel32.Sleep  # milliseconds; 0 lets the others run
else:
    SLEEP, _sleep = 50, ctypes.CDLL(None).usleep  # microseconds
llvmlite.binding.add_symbol("gpt2core_sleep", ctypes.cast(_sleep, ctypes.c_void_p).value)
sleep = types.ExternalFunction("gpt2core_sleep", types.int32(types.int32))


# Threads

# Looks at a counter before the thread sleeps: about 50 us, more than threads that are all running
# ever wait. On a busy machine the thread that is waited for may not be running.
SPINS = 5000


# error_model="numpy": a division by zero is infinity and no exception. An exception could not
# leave a thread that others wait for, and a loop that may raise one does not vectorize.
def compiled(function: Any = None, **options: Any) -> Any:
    """Decorates a function that ``kernels.forward`` calls."""
    decorator = njit(nogil=True, error_model="numpy", **options)
    return decorator(function) if function else decorator


@compiled
def shared(buffers, phase, n, n_threads):
    """Yield parts of ``range(n)``, each to one of the threads; ends when all are done.

    A part is ``(first, end)``. It goes to one call of a function, not one for each number: Numba
    counts references to arrays with atomic instructions, which keep the processor from loading
    the next block early.
    """
    n_parts = min(n, 4 * n_threads)
    part = atomic_add(buffers.taken, phase, 1) - 1
    while part < n_parts:
        yield n * part // n_parts, n * (part + 1) // n_parts
        atomic_add(buffers.done, phase, 1)
        part = atomic_add(buffers.taken, phase, 1) - 1
    spins = 0
    while atomic_load(buffers.done, phase) < n_parts:
        spins += 1
        if spins > SPINS:
            sleep(SLEEP)
