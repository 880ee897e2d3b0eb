"""Four bytes of a sum as one word, on both sides of a product: weights packed so, and what meets them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.gpu import Gpu

from ..stage import Const
from ..tensor import Tensor
from .dot import QUAD, SIGNS, dot, quad
from .grid import Grid
from .tile import Tile


def takes_bytes(x: Tensor, w: Tensor, target: Gpu) -> bool:
    """Whether these are bytes by constant int8 weights, and kernels may call functions of OpenCL C."""
    return x.dtype in SIGNS and w.dtype == "int8" and w.data is not None and target.api == "opencl"


def word_const(shape: tuple[int, ...], make: Callable[[], np.ndarray], key: str, name: str) -> Const:
    """int8 [..., K, N] of that shape as uint32 [..., ceil(K / 4), N]: words of four elements along K, zeros behind."""
    *lead, depth, cols = shape
    quads = -(-depth // QUAD)

    def words() -> np.ndarray:
        padded = np.zeros((*lead, quads * QUAD, cols), np.int8)
        padded[..., :depth, :] = make()
        four = np.moveaxis(padded.reshape(*lead, quads, QUAD, cols), -2, -1)
        return np.ascontiguousarray(four).view("<u4")[..., 0]

    return Const((*lead, quads, cols), "uint32", words, key, name)


class ByteSums:
    """Adds products of words to a tile of int32."""

    def __init__(self, b: Grid, tile: Tile, dtype: str, depth: int) -> None:
        """depth: bytes on the left side, of type `dtype`, in each run of a sum."""
        self.b, self.tile, self.dtype, self.depth = b, tile, dtype, depth

    def add(
        self, lefts: list[Callable[[tirx.Expr], tirx.Expr]], right: Callable[[tirx.Expr], tirx.Var],
        tests: list[tirx.Expr | None], other: tirx.Expr | None = None,
    ) -> None:  # fmt: skip
        """Adds one run. lefts: loads byte k of a row; right: a quad's words of each column.

        other: the word that is taken in place of a row's where its test fails.
        """
        b, (whole, rest) = self.b, divmod(self.depth, QUAD)
        if whole:
            with b.serial(whole, "quad") as at:
                self._quad([quad(left(at * QUAD)) for left in lefts], right(at), tests, other)
        if rest:
            last = tirx.const(whole, "int32")
            self._quad([_some(left, last * QUAD, rest) for left in lefts], right(last), tests, other)

    def _quad(
        self, words: list[tirx.Expr], row: tirx.Var, tests: list[tirx.Expr | None], other: tirx.Expr | None
    ) -> None:
        b, tile = self.b, self.tile
        for r, (word, test) in enumerate(zip(words, tests, strict=True)):
            held = b.let(word if test is None or other is None else tirx.Select(test, word, other))
            for c in range(tile.cols):
                place = r * tile.cols + c
                b.store(tile.sums, place, dot(held, self.dtype, row[c], "int8", tile.sums[place]))


def _some(left: Callable[[tirx.Expr], tirx.Expr], first: tirx.Expr, count: int) -> tirx.Expr:
    """A word of so many bytes; their weights' zeros make what is behind them of no account."""
    word = tirx.const(0, "uint32")
    for i in range(count):
        byte = left(first + i).astype("uint8").astype("uint32")
        word = word | tirx.shift_left(byte, tirx.const(8 * i, "uint32"))
    return word
