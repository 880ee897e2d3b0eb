"""Square blocks turned in registers: rows of a matrix become columns by interleaving vectors."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from .builder import Builder
from .tensor import Index, as_expr


def load_vector(buffer: tirx.Var, indices: Sequence[Index], lanes: int) -> tirx.Expr:
    """buffer[..., i : i + lanes] as one vector."""
    *outer, last = indices
    return buffer[(*(as_expr(i) for i in outer), tirx.Ramp(as_expr(last), _one(last), lanes))]


def store_vector(b: Builder, buffer: tirx.Var, indices: Sequence[Index], value: tirx.Expr, lanes: int) -> None:
    """buffer[..., i : i + lanes] = value."""
    *outer, last = indices
    place = [*(as_expr(i) for i in outer), tirx.Ramp(as_expr(last), _one(last), lanes)]
    b.emit(tirx.BufferStore(buffer, value, place))


def turn(b: Builder, rows: Sequence[tirx.Expr], lanes: int) -> list[tirx.Expr]:
    """The columns of a square of `lanes` row vectors (a power of two).

    Row i with row i + lanes/2 interleaved, log2(lanes) times: each round moves one bit of the row number into the
    column number (a perfect shuffle), so that after all of them the two have changed places.
    """
    half = lanes // 2
    low = [as_expr(k // 2 + (k % 2) * lanes) for k in range(lanes)]
    high = [as_expr(half + k // 2 + (k % 2) * lanes) for k in range(lanes)]
    rows = [b.let(row, "row") for row in rows]
    size = 1
    while size < lanes:
        rows = [
            b.let(tirx.Shuffle([rows[i // 2], rows[i // 2 + half]], high if i % 2 else low), "turned")
            for i in range(lanes)
        ]
        size *= 2
    return rows


def _one(last: Index) -> tirx.Expr:
    last = as_expr(last)
    return tirx.const(1, str(last.ty.dtype))
