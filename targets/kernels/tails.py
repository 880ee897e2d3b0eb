"""The fused tail of a kernel whose loops see the output as a matrix [rows, cols]: views of what the tail reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from .builder import Builder
from .loops import unflatten
from .registry import Call
from .tensor import Index, Tensor, as_expr, product, same_shape


def unravel(b: Builder, position: tirx.Expr, extents: Sequence[Index]) -> list[tirx.Expr]:
    """The indices of a row-major task number, the last one fastest, each bound to a name.

    Nothing here is negative, so divisions truncate: rounding down by a symbolic divisor costs a sign correction, and
    LLVM many seconds where addresses stand on it.
    """
    indices: list[tirx.Expr] = []
    for extent in reversed(extents[1:]):
        size = as_expr(extent, "int64")
        indices.append(b.let(tirx.truncmod(position, size)))
        position = b.let(tirx.truncdiv(position, size))
    return [position, *reversed(indices)] if extents else []


def leaves(t: Tensor, seen: dict[int, Tensor] | None = None) -> list[Tensor]:
    """The leaves an expression reads, itself included when it is one."""
    seen = {} if seen is None else seen
    if t.fn is None and t.reduction is None or t.materialised:
        seen[id(t)] = t
    for source in t.inputs:
        leaves(source, seen)
    return list(seen.values())


class MatrixTail:
    """Writes elements of the result seen as [rows, cols], where cols is its last axis and rows all others, flattened.

    Tensors of the output's own shape (a residual) are read at the flat row, which spares a division for every row.
    """

    def __init__(self, b: Builder, call: Call) -> None:
        self.b, self.call = b, call
        self.shape = call.outputs[0].shape
        self.view = b.arg(call.result, (product(self.shape[:-1]), self.shape[-1]))
        self._flat = [
            (t, b.arg(t, (product(self.shape[:-1]), self.shape[-1])))
            for t in leaves(call.final)
            if t is not call.outputs[0] and len(self.shape) > 2 and same_shape(t.shape, self.shape)
        ]

    def write(self, value: tirx.Expr, row: tirx.Expr, col: tirx.Expr) -> None:
        """result[row, col] = tail(value)."""
        self.b.bind(self.call.outputs[0], lambda *_: value)
        for t, view in self._flat:
            self.b.bind(t, _at(view, row, col, t.dtype))
        indices = [row, col] if len(self.shape) == 2 else [*unflatten(row, self.shape[:-1]), col]
        if len(self.shape) == 1:
            indices = [col]
        self.b.share(indices, self.shape)
        self.b.store(self.view, (row, col), self.call.final(*indices))


def _at(view: tirx.Var, row: tirx.Expr, col: tirx.Expr, dtype: str) -> Callable[..., tirx.Expr]:
    def read(*_: Index) -> tirx.Expr:
        return view[row, col].astype("bool") if dtype == "bool" else view[row, col]

    return read
