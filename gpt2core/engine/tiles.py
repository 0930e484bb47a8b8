"""What the kernels need and Numba has no words for, written in LLVM's: tiles, atomics, sleep.

A *tile* multiplies a few rows with 16 or 64 columns, and adds up in registers. It is made of
LLVM's vectors of 16 floats, so one source serves every processor: such a vector is one
register of AVX-512, two of AVX2, four of NEON.

Invariant: a tile adds up every output over ``n`` one element after the other, in one accumulator,
with the same instruction. So no bit of it depends on the tile's size.
"""

import ctypes
import sys
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gpt2core.engine.packed import WIDTH
from gpt2core.engine.task import LANES, TILE_ROWS

VECTORS = WIDTH // LANES  # in a row of a block
FLOAT, INT = ir.FloatType(), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(32), LANES)
BYTES = ir.VectorType(ir.IntType(8), LANES)

# Whether a tile of 4 rows and 64 columns fits the vector registers: 16 of 32 with AVX-512.
_, _, cpu_features = cpu_target.target_context.codegen().magic_tuple()
WIDE = "+avx512f" in cpu_features


def make_tile(n_rows: int, n_vectors: int) -> Any:
    """``tile(x, x_stride, w, w_address, w_stride, n, out, out_stride)``, an intrinsic.

    Adds ``x @ w`` to ``out``. With ``n_columns = 16 * n_vectors``, ``x`` is the address of
    ``[n_rows, n]`` floats, ``w_address`` that of ``[n, n_columns]`` elements of the array
    ``w``'s type, ``out`` that of ``[n_rows, n_columns]`` floats. Strides are bytes from row to
    row; ``n`` is at least 1.
    """

    @intrinsic
    def tile(typing, x, x_stride, w, w_address, w_stride, n, out, out_stride):
        is_int8 = w.dtype == types.int8

        def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, x_stride, _, w, w_stride, n, out, out_stride = args
            multiply_add = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(FLOATS, [FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
            )

            def pointer(address: Any, offset: int, kind: Any) -> Any:
                return b.inttoptr(b.add(address, INT(offset)), kind.as_pointer())

            def weights(address: Any, v: int) -> Any:
                if not is_int8:
                    return b.load(pointer(address, 4 * LANES * v, FLOATS), align=4)
                elements = b.load(pointer(address, LANES * v, BYTES), align=1)
                return b.sitofp(b.sext(elements, INTS), FLOATS)

            def broadcast(value: Any) -> Any:
                undefined = ir.Constant(FLOATS, ir.Undefined)
                one = b.insert_element(undefined, value, ir.IntType(32)(0))
                return b.shuffle_vector(one, undefined, ir.Constant(INTS, [0] * LANES))

            rows, vectors = range(n_rows), range(n_vectors)
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
        return types.void(address, address, w, *[address] * 5), generate

    return tile


tile_1x64, tile_4x64 = make_tile(1, VECTORS), make_tile(TILE_ROWS, VECTORS)
tile_1x16, tile_4x16 = make_tile(1, 1), make_tile(TILE_ROWS, 1)


@intrinsic
def two_to(typing, n):
    """``2 ** n`` for a float that is a whole number from -126 to 127."""

    def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
        exponent = b.fptosi(args[0], ir.IntType(32))
        bits = b.shl(b.add(exponent, ir.IntType(32)(127)), ir.IntType(32)(23))
        return b.bitcast(bits, FLOAT)

    return types.float32(types.float32), generate


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
