"""``gpt2()`` needs functions of its array namespace, and no methods of the arrays.

Array libraries share NumPy's functions more widely than the methods of its arrays:
cuPyNumeric has ``transpose(x, axes)``, but its ``x.transpose`` takes no four numbers.
``BareArray`` and ``BareNamespace`` stand for any such library, so that the promise is
checked where no other library than NumPy is installed.
"""

import re

import numpy as np
import pytest

from gpt2core.model import gpt2
from tests.helpers.paths import ROOT
from tests.helpers.small_models import SMALL_MODELS

OPERATORS = ["add", "sub", "mul", "truediv", "pow", "matmul"]


class BareArray:
    """A NumPy array reduced to operators, indexing, ``shape``, ``dtype`` and ``ndim``."""

    __array_ufunc__ = None  # NumPy's own arrays leave mixed operators to this class

    def __init__(self, array):
        self._array = array

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)

    def __getitem__(self, key):
        return BareArray(self._array[unwrap(key)])

    def __neg__(self):
        return BareArray(-self._array)

    def __getattr__(self, name):
        raise AttributeError(f"an array of this library has no {name}")


def make_operator(name):
    def apply(self, other):
        return BareArray(getattr(self._array, name)(unwrap(other)))

    return apply


for operator in OPERATORS:
    for name in (f"__{operator}__", f"__r{operator}__"):
        setattr(BareArray, name, make_operator(name))


class BareNamespace:
    """NumPy's functions, taking and giving BareArray; NumPy's arrays are refused."""

    def __init__(self):
        self.used = set()  # names of the functions

    def __getattr__(self, name):
        self.used.add(name)
        function = getattr(np, name)

        def call(*args, **kwargs):
            assert not any(isinstance(a, np.ndarray) for a in args)
            args = [unwrap(a) for a in args]
            return BareArray(function(*args, **kwargs))

        return call


def unwrap(value):
    return value._array if isinstance(value, BareArray) else value


def wrap(tree):
    """``tree`` with every NumPy array in it as a BareArray."""
    if isinstance(tree, dict):
        return {name: wrap(branch) for name, branch in tree.items()}
    if isinstance(tree, list):
        return [wrap(branch) for branch in tree]
    return BareArray(tree)


def test_a_namespace_of_functions_only_gives_numpys_logits(small):
    ids, params, n_head = small.ids(), small.params(), small.hparams.n_head
    logits = gpt2(ids, **wrap(params), n_head=n_head, xp=BareNamespace())
    assert isinstance(logits, BareArray)
    np.testing.assert_array_equal(unwrap(logits), gpt2(ids, **params, n_head=n_head))


def test_the_docs_list_the_functions_that_a_library_must_offer():
    docs = ROOT / "docs" / "array_libraries.md"
    [listed] = re.findall(r"```text\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    small, xp = SMALL_MODELS["one_head"], BareNamespace()
    gpt2(small.ids(), **wrap(small.params()), n_head=small.hparams.n_head, xp=xp)
    assert listed.split() == sorted(xp.used)


@pytest.mark.parametrize("name", ["transpose", "reshape", "T", "sum", "astype", "__array__"])
def test_the_bare_array_has_no_methods(name):
    """The guard above can fail: a method call in the model would raise."""
    with pytest.raises(AttributeError, match=name):
        getattr(wrap(SMALL_MODELS["one_head"].params())["wte"], name)
