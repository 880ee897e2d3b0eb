"""Kernels that work on whole rows (softmax, normalisations): how they walk them, and store through the fused tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx

from .access import analyse
from .builder import Builder
from .loops import tasks
from .registry import Call
from .tensor import Index, as_expr, product

COMPUTE = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


class Rows:
    """A call whose tensors are rows: the axes before `axis` count them, those from `axis` on form one row."""

    def __init__(self, b: Builder, call: Call, axis: int) -> None:
        self.b, self.call = b, call
        self.shape = call.outputs[0].shape
        self.outer, self.inner = list(self.shape[:axis]), list(self.shape[axis:])
        self.length: Index = product(self.inner)
        self.dtype = COMPUTE[call.need(0).dtype]
        self.x, self.out = b.arg(call.need(0)), b.arg(call.result)
        self._value: tirx.Expr | None = None
        b.bind(call.outputs[0], lambda *i: self._value)

    def at(self, row: Sequence[Index], k: Index) -> list[Index]:
        """Indices of element k of a row. k runs over all axes of a row and stands in the last one (see `fits`)."""
        return [*row, *[as_expr(0, "int64")] * (len(self.inner) - 1), k]

    def load(self, row: Sequence[Index], k: Index) -> tirx.Expr:
        """Element k of the input, in the type that is computed in."""
        return as_expr(self.x[tuple(as_expr(i) for i in self.at(row, k))], self.dtype)

    def store(self, row: Sequence[Index], k: Index, value: tirx.Expr) -> None:
        """The element's result, through the tail."""
        self._value = as_expr(value, self.call.outputs[0].dtype)
        if self.call.final is not self.call.outputs[0]:
            self._value = self.b.keep(self._value)  # the tail may read it twice, and names bound in it are bound once
        indices = self.at(row, k)
        self.b.share([as_expr(i) for i in indices], self.shape)
        self.b.store(self.out, indices, self.call.final(*indices))

    @contextmanager
    def each(self) -> Iterator[list[tirx.Expr]]:
        """A loop over the rows, in parallel."""
        with tasks(self.b, self.outer, self.length if isinstance(self.length, int) else 64) as row:
            yield row


def fits(call: Call, axis: int) -> bool:
    """Whether Rows takes the call: floats, one result, a tail that reads its operands along a row as if flat."""
    x = call.inputs[0]
    if x is None or x.dtype not in COMPUTE or more_results(call):
        return False
    shape = call.outputs[0].shape
    if any(isinstance(s, int) and s == 0 for s in shape):
        return False
    return flat_from(call.final, shape, axis)


def more_results(call: Call) -> bool:
    """Whether anything but the first output is wanted (one that is not is its own scratch)."""
    return any(r is not None and all(r is not o for o in call.outputs) for r in call.results[1:])


def flat_from(fn: Callable[..., tirx.Expr], shape: Sequence[Index], axis: int) -> bool:
    """Whether `fn` may be read with the whole position within axes `axis`.. given as the last index."""
    if axis >= len(shape) - 1:
        return True
    access = analyse(fn, shape)
    return all(access.mergeable(a) for a in range(axis, len(shape) - 1))


def normal_axis(call: Call, default: int = -1) -> int:
    """The call's axis attribute, counted from the front."""
    return int(call.attrs.get("axis", default)) % max(1, call.outputs[0].ndim)
