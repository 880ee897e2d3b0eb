"""Products of bytes with the vector extension of Cortex-M55 (MVE): VMLADAVA adds 16 products to one sum.

Sums live in core registers, so the reduction lies along a vector: weights are packed [panels][steps][columns][16], and
a row of the left side is read 16 bytes at a time. Convolutions whose pixels read several runs of bytes, and rows that
are no multiple of 16 long, gather a tile of rows into a small buffer first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .conv2d_pad import padded
from .conv2d_shape import ConvShape, conv_shape
from .dot import load_vector, store_vector
from .registry import Call, template
from .slides import let_slide
from .stage import Const, Leaf, Stage
from .tails import MatrixTail, unravel
from .tensor import Tensor, as_expr
from .tiles import Tile, chunks

BYTES = 16  # of a vector
TILE = Tile(2, 1, 4)  # VMLADAVA takes even core registers only, of which there are eight


@template("edgert.Conv2dInteger", family="mcu")
def conv2d_mve(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] int8 * constant W int8 [O, C, kH, kW] -> int32 [N, OH, OW, O]; input 2: the pads' byte."""
    x, w, s = call.need(0), call.need(1), conv_shape(call)
    if target.dot != "mve" or s is None or not _takes(x, w) or not isinstance(s.batch, int):
        return None
    if s.group != 1 or s.dilations[1] != 1:
        return None

    def matrix() -> np.ndarray:
        data = np.asarray(w.data())  # type: ignore[misc]
        return data.transpose(0, 2, 3, 1).reshape(data.shape[0], -1)

    stages: list[Stage] = []
    source: Leaf = x
    if any(s.pads):
        stage, source, s = padded(x, s, target, call.need(2))
        stages.append(stage)
    return [
        *stages,
        _Product(call, source, matrix, f"{w.name}:conv", s.depth, None if s.is_matrix else s).stage(target),
    ]


@template("edgert.GemmInteger", family="mcu")
def gemm_mve(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] int8 x B [K, N] (transB: [N, K]) constant int8, summed in int32."""
    a, w = call.need(0), call.need(1)
    if target.dot != "mve" or not _takes(a, w):
        return None
    swapped = bool(call.attrs.get("transB", 0))

    def matrix() -> np.ndarray:
        data = np.asarray(w.data())  # type: ignore[misc]
        return data if swapped else data.T

    how = "transposed" if swapped else "plain"
    return [_Product(call, a, matrix, f"{w.name}:{how}", int(a.shape[-1]), None).stage(target)]


def _takes(a: Tensor, w: Tensor) -> bool:
    """Whether the operands are int8 with known sizes, and the weights constant."""
    sizes = (*a.shape, *w.shape)
    return a.dtype == w.dtype == "int8" and w.data is not None and all(isinstance(n, int) and n > 0 for n in sizes)


def pack_steps(matrix: np.ndarray) -> np.ndarray:
    """[columns, depth] -> [panels, steps, columns of a panel * 16], filled up with zeros."""
    (cols, depth), width = matrix.shape, TILE.cols
    full = np.zeros((-(-cols // width) * width, -(-depth // BYTES) * BYTES), np.int8)
    full[:cols, :depth] = matrix
    shaped = full.reshape(-1, width, full.shape[1] // BYTES, BYTES).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(shaped.reshape(shaped.shape[0], shaped.shape[1], -1))


class _Product:
    """rows x depth times depth x cols. s: of a convolution whose rows are gathered from an image without pads."""

    def __init__(
        self, call: Call, left: Leaf, matrix: Callable[[], np.ndarray], key: str, depth: int, s: ConvShape | None
    ) -> None:  # fmt: skip
        self.call, self.left, self.s, self.depth = call, left, s, depth
        *lead, self.cols = (int(n) for n in call.outputs[0].shape)
        self.rows = math.prod(lead)
        self.steps, self.panels = -(-depth // BYTES), -(-self.cols // TILE.cols)
        self.gathers = s is not None or depth % BYTES != 0
        kind = f"conv{s.kernel[0]}x{s.kernel[1]}" if s else "gemm"
        self.b = b = Builder(f"{kind}_s8s8_{'gathered_' * self.gathers}{TILE.rows}x{TILE.cols}_mve")
        shape = (s.batch * s.height, s.width * s.channels) if s else (self.rows, depth)
        self.image = b.arg(left, shape)
        sizes = (self.panels, self.steps, TILE.cols * BYTES)
        self.weights = b.arg(Const(sizes, "int8", lambda: pack_steps(matrix()), f"{key}:mve{TILE.cols}", "packed"))
        self.tail = MatrixTail(b, call)

    def stage(self, target: Target) -> Stage:
        """Tiles of rows from front to back, all columns of each. The last tile may do a row twice."""
        b, whole = self.b, self.cols // TILE.cols
        tall = min(TILE.rows, self.rows)
        with b, b.parallel(1):
            held = b.local((tall, self.steps * BYTES), "int8") if self.gathers else self.image
            if self.gathers and self.depth % BYTES:
                for i in range(tall):
                    start = as_expr((self.steps - 1) * BYTES)
                    store_vector(b, held, tirx.Broadcast(tirx.const(0, "int8"), BYTES), as_expr(i), start)
            with b.serial(-(-self.rows // tall), "tile") as t:
                first, last = as_expr(t, "int64") * tall, as_expr(self.rows - 1, "int64")
                rows = [b.let(tirx.min(first + i, last)) for i in range(tall)]
                if self.gathers:
                    for i, row in enumerate(rows):
                        self.gather(held, i, row)
                at = [as_expr(i) for i in range(tall)] if self.gathers else rows
                if whole:
                    with b.serial(whole, "panel") as panel:
                        self.tile(held, at, rows, as_expr(panel, "int64"), TILE.cols)
                if self.cols % TILE.cols:
                    self.tile(held, at, rows, as_expr(whole, "int64"), self.cols % TILE.cols)
        return let_slide(b.stage(), self.left, self.call.result, self.pieces(tall), target)

    def pieces(self, tall: int) -> list[tuple[int, int]]:
        """Of each tile, the elements written when it is done, and the first one that is still read."""
        s, found = self.s, []
        for first in range(0, self.rows, tall):
            read = first * self.depth
            if s is not None:
                n, oh = divmod(first // s.out_width, s.out_height)
                read = (n * s.height + oh * s.strides[0]) * s.width * s.channels  # of the whole line
            found.append((min(first + tall, self.rows) * self.cols, read))
        return found

    def gather(self, held: tirx.Var, i: int, row: tirx.Expr) -> None:
        """The bytes that row reads, side by side."""
        b, s = self.b, self.s
        if s is None:
            self.copy(held, as_expr(i), as_expr(0), row, as_expr(0, "int64"), self.depth)
            return
        n, oh, ow = unravel(b, row, (s.batch, s.out_height, s.out_width))
        line, column = b.let(n * s.height + oh * s.strides[0]), b.let(ow * (s.strides[1] * s.channels))
        length = s.kernel[1] * s.channels
        with b.serial(s.kernel[0], "kh") as kh:
            self.copy(held, as_expr(i), kh * length, b.let(line + kh * s.dilations[0]), column, length)

    def copy(
        self, held: tirx.Var, i: tirx.Expr, to: tirx.Expr, line: tirx.Expr, start: tirx.Expr, count: int
    ) -> None:  # fmt: skip
        """held[i, to...] = image[line, start...], `count` bytes."""
        for offset, width in chunks(count, BYTES):
            with self.b.vector(width) as v:
                self.b.store(held, (i, to + offset + v), self.image[line, start + offset + v])

    def tile(self, held: tirx.Var, at: list[tirx.Expr], rows: list[tirx.Expr], panel: tirx.Expr, width: int) -> None:
        """The sums of a tile, stored through the fused tail."""
        b = self.b
        acc = b.local((len(rows), TILE.cols), "int32")
        for i in range(len(rows)):
            for c in range(TILE.cols):
                b.store(acc, (i, c), tirx.const(0, "int32"))
        with b.serial(self.steps, "k") as k:
            left = [b.let(load_vector(held, row, k * BYTES, count=BYTES)) for row in at]
            for c in range(width):
                column = as_expr(k, "int64"), as_expr(c * BYTES, "int64")
                right = b.let(load_vector(self.weights, panel, *column, count=BYTES))
                for i, bytes_ in enumerate(left):
                    b.store(acc, (i, c), _add_products(acc[i, c], bytes_, right))
        for i, row in enumerate(rows):
            for offset, count in chunks(width, TILE.lanes):
                with b.vector(count) as v:
                    self.tail.write(acc[i, offset + v], row, panel * TILE.cols + (offset + v))


def _add_products(acc: tirx.Expr, x: tirx.Expr, y: tirx.Expr) -> tirx.Expr:
    plain = [tirx.const(0, "int32")] * 3  # neither unsigned, nor subtracted, nor exchanged
    return tirx.call_llvm_pure_intrin("int32", "llvm.arm.mve.vmldava.v16i8", *plain, acc, x, y)
