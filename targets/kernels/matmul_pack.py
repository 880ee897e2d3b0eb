"""Packs a matrix known only at run time into panels [batch, ceil(N/NR), K, NR], zero-padded, as matmul reads it."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .stage import Stage, Temp
from .tails import unravel
from .tensor import Index, Tensor, product, simplify

BLOCK = 16  # depth of the blocks in which a transposing copy goes, so that the lines it writes stay in L1


def packed(right: Tensor, swapped: bool, width: int, target: Target) -> tuple[Stage, Temp]:
    """The stage and its buffer. right: [..., K, N], or [..., N, K] when `swapped`; any dimension may be symbolic."""
    *batch, rows, columns = right.shape
    depth, cols = (columns, rows) if swapped else (rows, columns)
    panels = simplify((cols + (width - 1)) // width)
    buffer = Temp((product(batch), panels, depth, width), right.dtype, "packed")
    b = Builder(f"pack_{'nk' if swapped else 'kn'}_f32_{width}_{target.name.split('-')[-1]}")
    with b:
        source, out = b.arg(right), b.arg(buffer)
        with b.parallel(product([*batch, panels]), 4) as p:
            at, panel = unravel(b, p, [product(batch), panels])
            place = tuple(unravel(b, at, batch))
            left = b.let(cols - panel * width)
            first = b.let(panel * width)

            def copy(count: Index) -> None:
                if swapped:
                    _transpose(b, out, (at, panel), source, place, first, depth, count)
                    return
                with b.serial(depth, "k") as k:
                    loop = b.vector(width) if isinstance(count, int) else b.serial(count, "c")
                    with loop as c:
                        b.store(out, (at, panel, k, c), source[(*place, k, first + c)])

            with b.when(left >= width):
                copy(width)
            with b.otherwise():
                with b.serial(depth, "k") as k, b.vector(width) as c:
                    b.store(out, (at, panel, k, c), tirx.const(0, right.dtype))
                copy(left)
    return b.stage(), buffer


def _transpose(
    b: Builder, out: tirx.Var, to: tuple, source: tirx.Var, place: tuple, first: Index, depth: Index, count: Index
) -> None:
    """out[to, k, c] = source[place, first + c, k] for c < count, in blocks of the depth."""
    turns = depth // BLOCK
    with b.serial(turns, "kb") as kb, b.serial(count, "c") as c, b.unroll(BLOCK) as k:
        b.store(out, (*to, kb * BLOCK + k, c), source[(*place, first + c, kb * BLOCK + k)])
    rest = simplify(depth - turns * BLOCK)
    if not (isinstance(rest, int) and rest == 0):
        with b.serial(rest, "k") as k, b.serial(count, "c") as c:
            b.store(out, (*to, turns * BLOCK + k, c), source[(*place, first + c, turns * BLOCK + k)])
