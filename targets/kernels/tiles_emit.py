"""Statements of a register tile: clear the accumulators, sum over the reduction, store through the fused tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from .builder import Builder
from .tensor import Index
from .tiles import Tile, chunks

Operand = Callable[..., tirx.Expr]


def clear(b: Builder, rows: int, tile: Tile) -> tirx.Var:
    """A local [rows, cols] accumulator of zeros."""
    acc = b.local((rows, tile.cols), "float32")
    with b.unroll(rows) as i, b.unroll(tile.vecs) as j, b.vector(tile.lanes) as v:
        b.store(acc, (i, j * tile.lanes + v), tirx.const(0.0, "float32"))
    return acc


def multiply_add(b: Builder, acc: tirx.Var, rows: range, tile: Tile, left: Operand, right: Operand) -> None:
    """acc[i, c] += left(i) * right(c) for the rows of a range: one step of the reduction."""
    if len(rows) == 0:
        return
    with b.unroll(len(rows)) as i, b.unroll(tile.vecs) as j, b.vector(tile.lanes) as v:
        row = i + rows.start if rows.start else i
        col = j * tile.lanes + v
        b.store(acc, (row, col), acc[row, col] + left(row) * right(col))


def reduce_into(
    b: Builder, acc: tirx.Var, rows: range, tile: Tile, depth: Index,
    left: Callable[[tirx.Expr, tirx.Expr], tirx.Expr], right: Callable[[tirx.Expr, tirx.Expr], tirx.Expr],
    unroll: int = 0, each: Callable[[tirx.Expr], None] | None = None,
) -> None:  # fmt: skip
    """acc[i, c] += sum over k < depth of left(i, k) * right(k, c), `unroll` steps a turn (0: as suits).

    each: emitted once a turn, given the turn's number (prefetches).
    """
    if not len(rows):
        return

    def step(k: Index) -> None:
        multiply_add(b, acc, rows, tile, lambda i: left(i, k), lambda c: right(k, c))

    if not isinstance(depth, int):
        with b.serial(depth, "k") as k:
            step(k)
        return
    unroll = min(unroll or steps_a_turn(tile), depth)
    turns, rest = divmod(depth, unroll)
    with b.serial(turns, "k") as k:
        if each:
            each(k)
        with b.unroll(unroll) as u:
            step(k * unroll + u)
    if rest:
        with b.unroll(rest) as u:
            step(u + turns * unroll)


def steps_a_turn(tile: Tile) -> int:
    """Reduction steps unrolled into one turn of the inner loop.

    A narrow tile of many rows spends its code on broadcasts: more than two steps no longer fit the decoded-uop cache.
    """
    return 4 if tile.vecs > 2 else 2


def prefetch(b: Builder, buffer: tirx.Var, index: Index) -> None:
    """Asks for the cache line of buffer[index] in L2. Never faults, so the index may run past the end."""
    read, second_level, data = (tirx.const(value, "int32") for value in (0, 2, 1))
    address = tirx.address_of(buffer[index])
    b.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, read, second_level, data)))


def prefetch_write(b: Builder, buffer: tirx.Var, index: Sequence[tirx.Expr]) -> None:
    """Asks for the cache line of buffer[index], to be written soon."""
    write, near, data = (tirx.const(value, "int32") for value in (1, 3, 1))
    address = tirx.address_of(buffer[tuple(index)])
    b.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, write, near, data)))


def store_tile(
    b: Builder,
    acc: tirx.Var,
    rows: int,
    cols: int,
    tile: Tile,
    write: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None],
) -> None:
    """For each row and each piece of the first `cols` columns: `write(value, i, c)`, inside a vector loop.

    `value` is the accumulator at (i, c).
    """
    for offset, width in chunks(cols, tile.lanes):
        with b.unroll(rows) as i, b.vector(width) as v:
            col = v + offset if offset else v
            write(acc[i, col], i, col)


def store_some(
    b: Builder,
    acc: tirx.Var,
    rows: int,
    cols: Index,
    tile: Tile,
    write: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None],
    dtype: str = "float32",
) -> None:
    """`store_tile` for columns counted only at run time: one element at a time, through a copy on the stack."""
    spilled = b.local((rows, tile.cols), dtype)
    store_tile(b, acc, rows, tile.cols, tile, lambda value, i, c: b.store(spilled, (i, c), value))
    with b.serial(rows, "i") as i, b.serial(cols, "c") as c:
        write(spilled[i, c], i, c)
