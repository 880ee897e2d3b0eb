"""Few rows times a transposed right side: each output is a dot product of two contiguous rows. Bound by reading B once.

Vectors run along the depth; packing B, as for many rows, would read and write it all to use it once or twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .registry import Call
from .stage import Stage
from .tails import unravel
from .tensor import Index, Tensor, as_expr, product, simplify

Where = Callable[[Sequence[Index]], tuple]
MOST_ROWS = 4  # more rows read B from cache again, and then packing pays
COLUMNS = 4  # outputs of one row at a time: enough chains of additions to hide their latency
GRAIN = 32768  # elements of B below which a thread is not worth waking


def takes(a: Tensor, out: Tensor, trans_a: bool, trans_b: bool) -> bool:
    """Whether this kernel is the one for a product."""
    rows = out.shape[-2]
    return trans_b and not trans_a and isinstance(rows, int) and rows <= MOST_ROWS and a.shape[-1] != 1


def dot_products(call: Call, a: Tensor, w: Tensor, place_a: Where, place_w: Where, target: Target) -> Stage:
    """A [..., M, K] x B [..., N, K] for M of at most MOST_ROWS; N and K may be symbolic.

    place_a, place_w: functions from the output's batch indices to the operand's.
    """
    *batch, rows, cols = call.outputs[0].shape
    lanes, depth = target.lanes("float32"), a.shape[-1]
    blocks = simplify((cols + (COLUMNS - 1)) // COLUMNS)
    grain = max(1, GRAIN // (COLUMNS * depth)) if isinstance(depth, int) else 16
    b = Builder(f"matmul_dot_f32_{rows}x{COLUMNS}_{target.name.split('-')[-1]}")
    with b:
        left, right, out = b.arg(a), b.arg(w), b.arg(call.result)
        with b.parallel(product([*batch, blocks]), grain) as p:
            *place, block = unravel(b, p, [*batch, blocks])
            at_a, at_w = place_a(place), place_w(place)
            last = as_expr(cols, "int64") - 1
            # past the last column the last one is read again, and not stored
            columns = [b.let(tirx.min(block * COLUMNS + c, last)) for c in range(COLUMNS)]
            acc = b.local((rows * COLUMNS, lanes), "float32")
            with b.unroll(rows * COLUMNS) as i, b.vector(lanes) as v:
                b.store(acc, (i, v), tirx.const(0.0, "float32"))
            turns = b.let(tirx.truncdiv(as_expr(depth, "int64"), tirx.const(lanes, "int64")))
            with b.serial(turns, "k") as k:
                for c, column in enumerate(columns):
                    for row in range(rows):
                        with b.vector(lanes) as v:
                            term = left[(*at_a, row, k * lanes + v)] * right[(*at_w, column, k * lanes + v)]
                            b.store(acc, (row * COLUMNS + c, v), acc[row * COLUMNS + c, v] + term)
            rest: Index = depth % lanes if isinstance(depth, int) else b.let(depth - turns * lanes)
            for row in range(rows):
                for c, column in enumerate(columns):
                    total = _sum(b, acc, row * COLUMNS + c, lanes)
                    if not isinstance(rest, int) or rest:
                        with b.serial(rest, "k") as k:
                            at = turns * lanes + k
                            b.store(total, 0, total[0] + left[(*at_a, row, at)] * right[(*at_w, column, at)])
                    _write(b, call, out, (*place, row, column), total[0], block * COLUMNS + c <= last)
    return b.stage()


def _sum(b: Builder, acc: tirx.Var, row: int, lanes: int) -> tirx.Var:
    """The sum of a vector of accumulators, halving it, in a local of one element."""
    source, width = [acc, row], lanes
    while width > 1:
        width //= 2
        half = b.local((1, width), "float32")
        buffer, at = source
        with b.vector(width) as v:
            b.store(half, (0, v), buffer[at, v] + buffer[at, v + width])
        source = [half, 0]
    total = b.local((1,), "float32")
    b.store(total, 0, source[0][source[1], 0])
    return total


def _write(b: Builder, call: Call, out: tirx.Var, place: Sequence[Index], value: tirx.Expr, inside: tirx.Expr) -> None:
    with b.when(inside):
        b.bind(call.outputs[0], lambda *_: value)
        b.share(place, call.result.shape)
        b.store(out, tuple(place), call.final(*place))
