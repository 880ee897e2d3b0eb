"""One row of bytes times constant 8-bit weights [D, K, 4*H] packed for the target's byte products (kernels/dot.py).

Weights are stored as int8 b = w - shift; then sum((a - za)(w - zw)) = sum(a b) - za sum(b) - zb (sum(a) - K za), where
zb = zw - shift and sum(b) is a constant for each column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.dot import QUAD, bytes_as_word, dot_of, load_vector, load_word
from targets.kernels.dot_tile import clear_sums, fitting, sum_quads
from targets.kernels.stage import Const
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr
from targets.kernels.tiles import Tile
from targets.kernels.tiles_emit import store_tile
from targets.target import Target

if TYPE_CHECKING:
    from .contrib_lstm import Weights


class Product:
    """The packed weights of one matrix, and the code that multiplies a row with them."""

    def __init__(self, weights: Weights, target: Target) -> None:
        self.weights, self.dot = weights, dot_of(target)
        self.directions, self.depth, self.columns = (int(s) for s in weights.data.shape)
        vectors = min(8 if target.registers >= 32 else 4, -(-self.columns // self.dot.lanes))
        self.tile = fitting(target, self.dot, Tile(1, vectors, self.dot.lanes))
        self.panels, self.quads = -(-self.columns // self.tile.cols), -(-self.depth // QUAD)
        cols, name = self.tile.cols, weights.data.name
        shape = (self.directions, self.panels, self.quads, cols * QUAD)
        self.packed = Const(shape, "int8", self._pack, f"{name}:lstm:quads{cols}", f"{name}_packed")
        whole = (self.directions, self.columns)
        self.sums = Const(whole, "int32", self._sums, f"{name}:lstm:sums", f"{name}_sums")
        self.offsets = Const((self.directions,), "int32", self._offsets, f"{name}:lstm:offsets", f"{name}_offsets")

    def _bytes(self) -> np.ndarray:
        data = _data(self.weights.data)
        return data if data.dtype == np.int8 else (data.astype(np.int16) - 128).astype(np.int8)

    def _pack(self) -> np.ndarray:
        rows, cols = self.quads * QUAD - self.depth, self.panels * self.tile.cols - self.columns
        data = np.pad(self._bytes(), [(0, 0), (0, rows), (0, cols)])
        split = data.reshape(self.directions, self.quads, QUAD, self.panels, self.tile.cols)
        return np.ascontiguousarray(split.transpose(0, 3, 1, 4, 2)).reshape(self.packed.shape)

    def _sums(self) -> np.ndarray:
        return self._bytes().sum(axis=1, dtype=np.int32)

    def _offsets(self) -> np.ndarray:
        """One for each direction: ONNX Runtime wants those of all columns equal."""
        points = _data(self.weights.zero)
        first = points.reshape(self.directions, -1)[:, 0].astype(np.int32)
        return first - (0 if points.dtype == np.int8 else 128)

    def row(
        self, b: Builder, d: Scalar, read: Callable[[Scalar], Scalar], word: Callable[[Scalar], Scalar],
        zero: Scalar, finish: Callable[[Index, Scalar], None],
    ) -> None:  # fmt: skip
        """finish(column, sum as float32) for every column, in vector loops.

        read(k): a uint8 of the row; word(k): four of them from k on; zero: their zero point as int32.
        """
        packed, sums, offsets = b.arg(self.packed), b.arg(self.sums), b.arg(self.offsets)
        total = b.local((1,), "int32")
        b.store(total, 0, as_expr(0, "int32"))
        with b.serial(self.depth, "k") as k:
            b.store(total, 0, total[0] + (read(k).astype("int32") - zero))
        shift = b.let(offsets[d] * total[0], "shift")
        wide = QUAD * self.tile.lanes

        def panel(p: Scalar, width: int) -> None:
            acc = clear_sums(b, 1, self.tile)

            def left(i: int, k: Index, known: int) -> Scalar:
                at = as_expr(k, "int64")
                return word(at) if known == QUAD else bytes_as_word(lambda n: read(at + n), known)

            def weights(quad: Index, j: int) -> Scalar:
                return load_vector(packed, d, p, as_expr(quad, "int64"), tirx.const(j * wide, "int64"), count=wide)

            sum_quads(b, acc, range(1), self.tile, self.dot, self.depth, left, False, weights)

            def write(value: Scalar, i: Scalar, c: Scalar) -> None:
                column = p * self.tile.cols + as_expr(c, "int64")
                finish(column, (value - zero * sums[d, column] - shift).astype("float32"))

            store_tile(b, acc, 1, width, self.tile, write)

        with b.serial(self.panels - 1, "panel") as p:
            panel(as_expr(p, "int64"), self.tile.cols)
        panel(as_expr(self.panels - 1, "int64"), self.columns - (self.panels - 1) * self.tile.cols)


def word_reader(buffer: tirx.Var, *lead: Scalar) -> Callable[[Scalar], Scalar]:
    """Four bytes of a row of `buffer` as one int32."""
    return lambda k: load_word(buffer, *lead, k)


def _data(t: Tensor) -> np.ndarray:
    assert t.data is not None, f"{t.name} is not known at compile time"
    return np.asarray(t.data())
