"""What the pass does to single numbers and rows, compiled; ``model.py`` has the formulas.

Invariant: a row's numbers do not depend on the rows beside it.
"""

import numpy as np

from gpt2core.engine.phases import compiled, place

F = np.float32
EPS = F(1e-5)


@compiled
def exp(x):
    """``e ** x`` to two units in the last place, for ``x <= 0`` or small; 0 is about 1e-38.

    The library's function is called for one number at a time; this one vectorizes.
    """
    x = min(max(x, F(-87)), F(88))
    n = np.floor(x * F(1.44269504) + F(0.5))
    r = x - n * F(0.693359375) - n * F(-2.12194440e-4)  # in two parts, for precision
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    two_to_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(F)
    return (p * r * r + r + F(1)) * two_to_n


@compiled(fastmath=True)
def layer_norm(x, gain_shift, out):
    """``model.layer_norm`` of each row of ``x [n_rows, n_embd]``."""
    n = x.shape[1]
    for row in range(len(x)):
        total = F(0)
        for i in range(n):
            total += x[row, i]
        mean, squares = total / F(n), F(0)
        for i in range(n):
            squares += (x[row, i] - mean) * (x[row, i] - mean)
        scale = F(1) / np.sqrt(squares / F(n) + EPS)
        for i in range(n):
            out[row, i] = (x[row, i] - mean) * scale * gain_shift[0, i] + gain_shift[1, i]


@compiled
def gelu(x, units):
    """``model.gelu`` of some units of ``x``, in place.

    ``0.5 * (1 + tanh(u))`` is ``1 / (1 + exp(-2 * u))``.
    """
    for unit in range(units[0], units[1]):
        (column, end_column), (first, end) = place(unit, len(x))
        for row in range(first, end):
            numbers = x[row, column:end_column]
            for c in range(len(numbers)):
                v = numbers[c]
                u = F(0.7978845608) * (v + F(0.044715) * v * v * v)
                numbers[c] = v / (F(1) + exp(F(-2) * u))


@compiled
def add_to_stream(x, delta, gates, units):
    """``x += delta``, times the gate of each row, for some units."""
    for unit in range(units[0], units[1]):
        (column, end_column), (first, end) = place(unit, len(x))
        end_column = min(end_column, x.shape[1])
        for row in range(first, end):
            numbers, added = x[row, column:end_column], delta[row, column:end_column]
            for c in range(len(numbers)):
                numbers[c] += added[c] * gates[row]


@compiled(fastmath={"nnan", "reassoc", "nsz"})
def softmax(scores, n, end, scale):
    """``model.softmax`` of ``scale * scores`` for the first ``n``, in place; 0 up to ``end``."""
    # The largest of whole numbers is found sixteen at a time, that of floats is not. Floats are in
    # the order of their bits, if those of negative ones but the sign are inverted.
    bits, highest = scores.view(np.int32), np.int32(-(2**31))
    for p in range(n):
        highest = max(highest, np.int32(bits[p] ^ ((bits[p] >> 31) & 0x7FFFFFFF)))
    largest = np.int32(highest ^ ((highest >> 31) & 0x7FFFFFFF)).view(F)
    total = F(0)
    for p in range(n):
        scores[p] = exp((scores[p] - largest) * scale)
        total += scores[p]
    for p in range(n):
        scores[p] *= F(1) / total
    for p in range(n, end):
        scores[p] = F(0)
