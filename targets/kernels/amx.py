"""Intel AMX: a matrix unit of eight tiles of 16 rows x 64 bytes; one instruction multiplies 16 x 64 by 64 x 16 bytes.

Instructions as in Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3. A kernel loads a
configuration (the rows and bytes of each tile) before its first tile instruction and releases it after the last: it is
a thread's own. The process has to have asked Linux for the tiles (edgert_rt_permit_amx).

Tiles 0..3 hold sums (2 x 2 blocks of 16 x 16 int32), 4 and 5 two blocks of rows, 6 and 7 two of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from .builder import Builder
from .dot import QUAD
from .stage import Const, fixed
from .tensor import Index

SIDE = 16  # rows of a tile; int32 columns of one with sums
ROW = 64  # bytes of a tile's row
BLOCK = 2 * SIDE  # rows and columns of the four sums
SUMS, ROWS, COLS = (0, 1, 2, 3), (4, 5), (6, 7)  # sums: [rows][cols] flattened


@dataclass(frozen=True)
class Steps:
    """How a reduction over `depth` bytes is cut into tiles `width` bytes wide.

    All steps are of one width, for another one would take a new configuration, which clears the sums. Where they do not
    come out even the last one starts early, and the weights of what it meets again are zero.
    """

    depth: int
    width: int  # bytes, a multiple of 4
    count: int

    @property
    def beyond(self) -> int:
        """Bytes read beyond the reduction."""
        return max(0, self.width - self.depth)

    def start(self, step: Index) -> Index:
        """Where a step starts."""
        last = max(0, self.depth - self.width)
        if isinstance(step, int):
            return min(step * self.width, last)
        start = step * self.width
        return start if self.count * self.width == self.depth else tirx.min(start, tirx.const(last, "int64"))


def steps_of(depth: int) -> Steps:
    """The fewest steps. Only a depth below 64 that is no multiple of 4 makes one that reads beyond it."""
    count = -(-depth // ROW)
    return Steps(depth, -(-depth // (count * QUAD)) * QUAD, count)


def pack_tiles(matrix: np.ndarray, steps: Steps, runs: int = 1) -> np.ndarray:
    """[runs * depth, cols] -> [ceil(cols/16), runs * steps, width/4, 16 * 4]: tiles, a row of four k for 16 columns."""
    cols = matrix.shape[1]
    panels, before = -(-cols // SIDE), (steps.count - 1) * steps.width
    given = matrix.reshape(runs, steps.depth, cols)
    full = np.zeros((runs, steps.count * steps.width, panels * SIDE), matrix.dtype)
    full[:, :before, :cols] = given[:, :before]
    end = full.shape[1] - steps.beyond
    full[:, end - (steps.depth - before) : end, :cols] = given[:, before:]
    tiles = full.reshape(runs * steps.count, steps.width // QUAD, QUAD, panels, SIDE).transpose(3, 0, 1, 4, 2)
    return np.ascontiguousarray(tiles.reshape(panels, runs * steps.count, steps.width // QUAD, ROW))


def tiles_const(
    name: str, matrix: Callable[[], np.ndarray], cols: int, steps: Steps, runs: int, key: str
) -> Const:  # fmt: skip
    """The packed tiles of weights that `matrix` gives as [runs * depth, cols]."""
    shape = (-(-cols // SIDE), runs * steps.count, steps.width // QUAD, ROW)
    how = f"{key}:amx{runs}x{steps.count}x{steps.width}"
    return Const(shape, "int8", lambda: pack_tiles(matrix(), steps, runs), how, f"{name}_packed")


def rows_up_to(limit: int) -> list[tuple[int, int]]:
    """Rows of the upper and of the lower tiles of blocks of 1..limit rows.

    A tile without rows is not allowed; where the upper ones hold all, the lower ones are not used.
    """
    return [(min(n, SIDE), n - SIDE if n > SIDE else SIDE) for n in range(1, limit + 1)]


def configurations(width: int, heights: Sequence[tuple[int, int]]) -> Const:
    """[len(heights), 64] bytes: configurations for a left side `width` bytes wide in upper and lower tiles so high."""

    def make() -> np.ndarray:
        table = np.zeros((len(heights), ROW), np.uint8)
        table[:, 0] = 1  # the palette
        bytes_of = table[:, 16:48].view(np.uint16)
        rows_of = table[:, 48:]
        bytes_of[:, list(SUMS + COLS)] = ROW
        bytes_of[:, list(ROWS)] = width
        rows_of[:, list(COLS)] = width // QUAD
        for i, (upper, lower) in enumerate(heights):
            rows_of[i, [SUMS[0], SUMS[1], ROWS[0]]] = upper
            rows_of[i, [SUMS[2], SUMS[3], ROWS[1]]] = lower
        return table

    key = ",".join(f"{upper}+{lower}" for upper, lower in heights)
    return fixed(Const((len(heights), ROW), "uint8", make, f"amx:configurations:{width}:{key}", "tiles"))


def sums(b: Builder) -> tirx.Var:
    """A local [32, 32] of int32 for the sums of a block.

    Held as vectors, for which LLVM aligns it to 64 bytes: a tile's row then stays within one cache line.
    """
    held = tirx.decl_buffer([BLOCK * BLOCK // SIDE], f"int32x{SIDE}", "sums", scope="local")
    view = tirx.decl_buffer([BLOCK, BLOCK], "int32", "sums", scope="local")
    b.emit(tirx.AllocBuffer(held))
    b.emit(tirx.DeclBuffer(view, data=held.data))
    return view


def _call(b: Builder, name: str, *operands: tirx.Expr) -> None:
    b.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *operands)))


def _tile(number: int) -> tirx.Expr:
    return tirx.const(number, "int8")


def configure(b: Builder, table: tirx.Var, entry: Index) -> None:
    """Loads a configuration, which clears all tiles. Takes about 180 cycles."""
    _call(b, "ldtilecfg", tirx.address_of(table[entry, 0]))


def release(b: Builder) -> None:
    """Gives the tiles back."""
    _call(b, "tilerelease")


def zero(b: Builder, tile: int) -> None:
    """tile = 0"""
    _call(b, "tilezero", _tile(tile))


def load(b: Builder, tile: int, address: tirx.Expr, stride: int) -> None:
    """The tile's rows from memory, `stride` bytes apart."""
    load_by(b, tile, address, tirx.const(stride, "int64"))


def load_once(b: Builder, tile: int, address: tirx.Expr, stride: int) -> None:
    """`load` of what will not be read again soon, which leaves the nearest cache to others."""
    _call(b, "tileloaddt164", _tile(tile), address, tirx.const(stride, "int64"))


def load_by(b: Builder, tile: int, address: tirx.Expr, stride: tirx.Expr) -> None:
    """`load` with a stride (int64) known only at run time."""
    _call(b, "tileloadd64", _tile(tile), address, stride)


def store(b: Builder, tile: int, address: tirx.Expr, stride: int) -> None:
    """The tile's rows to memory, `stride` bytes apart."""
    store_by(b, tile, address, tirx.const(stride, "int64"))


def store_by(b: Builder, tile: int, address: tirx.Expr, stride: tirx.Expr) -> None:
    """`store` with a stride (int64) known only at run time."""
    _call(b, "tilestored64", _tile(tile), address, stride)


def multiply(b: Builder, sums: int, left: int, right: int, signed: bool) -> None:
    """sums += left (unsigned or signed bytes) * right (signed bytes)"""
    _call(b, "tdpbssd" if signed else "tdpbusd", _tile(sums), _tile(left), _tile(right))


def multiply_bf16(b: Builder, sums: int, left: int, right: int) -> None:
    """sums (float32) += left * right, pairs of bfloat16 in 32 bits; needs amx_bf16"""
    _call(b, "tdpbf16ps", _tile(sums), _tile(left), _tile(right))
