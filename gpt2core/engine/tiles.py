"""What is written in LLVM's terms: tiles, of which all products are made, and atomics.

A *tile* multiplies a few rows with 16 or 64 columns, and adds up in registers. It is made of
LLVM's vectors of 16 numbers, so one source serves every processor: such a vector is one
register of AVX-512, two of AVX2, four of NEON. While it multiplies, it prefetches what the
tiles of the next weights will read.

Invariant: a tile adds up every output over ``n`` one element after the other, in one accumulator,
with the same instruction. So no bit of it depends on the tile's size. Sums of int8 weights are
whole numbers, and exact.
"""

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from gpt2core.engine.packed import WIDTH
from gpt2core.engine.plain import TILE_ROWS

LANES = 16  # numbers in a vector
CACHE_LINE = 64  # bytes
FLOAT, INT = ir.FloatType(), ir.IntType(64)
INT32, INT16, BYTE = ir.IntType(32), ir.IntType(16), ir.IntType(8)
vector_of = ir.VectorType  # (kind of its numbers, how many)
FLOATS, INTS = vector_of(FLOAT, LANES), vector_of(INT32, LANES)

_, _, cpu_features = cpu_target.target_context.codegen().magic_tuple()
WIDE = "+avx512f" in cpu_features
# The sums of 4 rows and 64 columns take 16 of the 32 registers of AVX-512; those of 4 rows and 16
# columns take 8 of the 16 of AVX2.
TILE_COLUMNS = WIDTH if WIDE else LANES


def pointer(b: ir.IRBuilder, address: Any, offset: int, kind: Any) -> Any:
    return b.inttoptr(b.add(address, INT(offset)), kind.as_pointer())


def shuffled(b: ir.IRBuilder, vector: Any, lanes: Sequence[int]) -> Any:
    """The numbers of ``vector`` at ``lanes``, a vector of as many."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    return b.shuffle_vector(
        vector, undefined, ir.Constant(vector_of(INT32, len(lanes)), list(lanes))
    )


def broadcast(b: ir.IRBuilder, address: Any, kind: Any) -> Any:
    """A vector of this kind whose numbers are all the one at ``address``."""
    one = b.load(pointer(b, address, 0, kind.element), align=4)
    vector = b.insert_element(ir.Constant(kind, ir.Undefined), one, INT32(0))
    return shuffled(b, vector, [0] * LANES)


class Float32:
    """How a tile multiplies float32 weights. A step is one activation, one weight of a column."""

    step_bytes, sums = 4, FLOATS

    @staticmethod
    def begin(b: ir.IRBuilder, output: Any) -> Any:
        """What a sum begins with; ``output`` is the place of its vector."""
        return b.load(output, align=4)

    @staticmethod
    def end(b: ir.IRBuilder, output: Any, total: Any) -> None:
        """Store a sum."""
        b.store(total, output, align=4)

    @staticmethod
    def weights(b: ir.IRBuilder, address: Any, offset: int) -> Any:
        """The weights of a vector of columns in one step."""
        return b.load(pointer(b, address, offset, FLOATS), align=4)

    @staticmethod
    def activations(b: ir.IRBuilder, address: Any) -> Any:
        """The activations of one row in one step, for every column."""
        return broadcast(b, address, FLOATS)

    @staticmethod
    def add_product(b: ir.IRBuilder, x: Any, w: Any, sums: Any) -> Any:
        kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
        fmuladd = cgutils.get_or_insert_function(b.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return b.call(fmuladd, [x, w, sums])


class Int8:
    """The same for int8 weights and int16 activations. A step is two of either.

    LLVM compiles ``add_product`` to one or two instructions, such as VPDPWSSD and VPMADDWD.
    """

    step_bytes, sums = 2, INTS

    @staticmethod
    def begin(b: ir.IRBuilder, output: Any) -> Any:
        return ir.Constant(INTS, [0] * LANES)

    @staticmethod
    def end(b: ir.IRBuilder, output: Any, total: Any) -> None:
        before = b.load(output, align=4)
        b.store(b.fadd(before, b.sitofp(total, FLOATS)), output, align=4)

    @staticmethod
    def weights(b: ir.IRBuilder, address: Any, offset: int) -> Any:
        pairs = b.load(pointer(b, address, offset, vector_of(BYTE, 2 * LANES)), align=1)
        return b.sext(pairs, vector_of(INT16, 2 * LANES))

    @staticmethod
    def activations(b: ir.IRBuilder, address: Any) -> Any:
        return b.bitcast(broadcast(b, address, INTS), vector_of(INT16, 2 * LANES))

    @staticmethod
    def add_product(b: ir.IRBuilder, x: Any, w: Any, sums: Any) -> Any:
        wide = vector_of(INT32, 2 * LANES)
        products = b.mul(b.sext(x, wide), b.sext(w, wide))
        evens, odds = (shuffled(b, products, range(first, 2 * LANES, 2)) for first in (0, 1))
        return b.add(sums, b.add(evens, odds))


def make_tile(n_rows: int, n_columns: int) -> Any:
    """``tile(x, x_stride, w, w_address, w_stride, n, out, out_stride, next_w, next_stride)``.

    Adds ``x @ w`` to ``out [n_rows, n_columns]``, whose address is given, in ``n`` steps, at least
    one. ``x`` is the address of float32 or int16 rows, ``w_address`` that of the weights, elements
    of the array ``w``'s type. Strides are bytes from row to row of ``x`` and ``out``, and from
    step to step of the weights. Step ``i`` prefetches the cache lines from ``next_w + i *
    next_stride`` on into the second cache: as many bytes as it reads of ``w``, or half as many if
    it has four rows, because then mostly two tiles or more read the same weights.
    """
    places = [(row, v) for row in range(n_rows) for v in range(n_columns // LANES)]

    @intrinsic
    def tile(typing, x, x_stride, w, w_address, w_stride, n, out, out_stride, next_w, next_stride):
        kind = Int8 if w.dtype == types.int8 else Float32
        w_bytes = n_columns * kind.step_bytes  # of a step
        next_bytes = w_bytes if n_rows == 1 else w_bytes // 2

        def generate(context: Any, b: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, x_stride, _, w, w_stride, n, out, out_stride, next_w, next_stride = args
            fetched = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), *[INT32] * 3])
            prefetch = cgutils.get_or_insert_function(b.module, fetched, "llvm.prefetch.p0")
            x_rows = [b.add(x, b.mul(x_stride, INT(row))) for row in range(n_rows)]
            out_rows = [b.add(out, b.mul(out_stride, INT(row))) for row in range(n_rows)]
            outputs = [pointer(b, out_rows[row], 4 * LANES * v, FLOATS) for row, v in places]
            begun = [kind.begin(b, output) for output in outputs]
            before = b.block
            loop, done = b.append_basic_block("loop"), b.append_basic_block("done")
            b.branch(loop)
            b.position_at_end(loop)  # one pass of the loop is one step
            i, w_step = b.phi(INT), b.phi(INT)
            sums = [b.phi(kind.sums) for _ in places]
            next_step = b.add(next_w, b.mul(i, next_stride))
            for offset in range(0, next_bytes, CACHE_LINE):
                # To be read (0), with locality 2, which is the second cache; data (1).
                place = pointer(b, next_step, offset, BYTE)
                b.call(prefetch, [place, INT32(0), INT32(2), INT32(1)])
            columns = [
                kind.weights(b, w_step, offset)
                for offset in range(0, w_bytes, LANES * kind.step_bytes)
            ]
            factors = [kind.activations(b, b.add(row, b.mul(i, INT(4)))) for row in x_rows]
            added = [
                kind.add_product(b, factors[row], columns[v], sums[k])
                for k, (row, v) in enumerate(places)
            ]
            i_next, w_next = b.add(i, INT(1)), b.add(w_step, w_stride)
            for phi, first, following in zip(
                [i, w_step, *sums], [INT(0), w, *begun], [i_next, w_next, *added], strict=True
            ):
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            b.cbranch(b.icmp_signed("<", i_next, n), loop, done)
            b.position_at_end(done)
            for output, total in zip(outputs, added, strict=True):
                kind.end(b, output, total)
            return context.get_dummy_value()

        address = types.intp
        return types.void(address, address, w, *[address] * 7), generate

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
