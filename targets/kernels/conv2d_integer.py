"""Integer convolution over NHWC: bytes with constant int8 weights, sums in int32. Matrix product, depthwise or direct.

The direct one copies an image with pads into one whose border holds the zero point: a byte an element, and then no tile
is special. Along a kernel row the bytes that one output pixel reads are one run in memory, summed quad by quad.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx

from targets.target import Target

from .amx_conv import amx_conv, wants_spare_line
from .amx_gemm import amx_product
from .arm.conv import arm_conv
from .arm.product import arm_product
from .builder import Builder
from .conv2d_direct import rows_of_task
from .conv2d_pad import padded
from .conv2d_shape import ConvShape, conv_shape
from .depthwise_integer import depthwise_integer
from .dot import QUAD, Dot, bytes_as_word, dot_of, load_vector, load_word
from .dot_tile import clear_sums, fitting, pack_quads, quads_const, sum_quads
from .gemm import bytes_fit
from .gemm_kernel import matrix_product
from .registry import Call, template
from .slides import let_slide, on_one_thread
from .stage import Const, Leaf, Stage
from .tensor import Index, Tensor, as_expr, simplify
from .tiles import Tile, choose_tile
from .tiles_emit import store_tile


@template("edgert.Conv2dInteger")
def conv2d_integer(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] uint8 * constant W int8 [O, C/group, kH, kW] -> int32 [N, OH, OW, O]; input 2: the pads' byte."""
    x, w, zero = call.need(0), call.need(1), call.need(2)
    s = conv_shape(call)
    if s is None or not bytes_fit(x, w, target):
        return None
    if s.is_matrix:
        depth, cols, rows = s.channels, s.out_channels, simplify(s.batch * (s.height * s.width))
        given = (
            call, target, "conv1x1_nhwc", rows, x, lambda: _as_matrix(np.asarray(w.data())), depth, cols,  # type: ignore[misc]
            f"{w.name}:conv1x1",
        )  # fmt: skip
        return amx_product(*given) or arm_product(*given) or matrix_product(
            call, target, "conv1x1_nhwc", rows, x, lambda nr: quads_const(w, _as_matrix, depth, cols, nr, "conv1x1"),
            depth, cols,
        )  # fmt: skip
    if s.is_depthwise:
        return depthwise_integer(call, x, w, zero, s, target)
    stages: list[Stage] = []
    source: Leaf = x
    if wants_spare_line(target, s):
        top, left, bottom, right = s.pads
        s = replace(s, pads=(top, left, bottom + 1, right))
    if any(s.pads):
        stage, source, s = padded(x, s, target, zero)
        stages.append(stage)
    on_tiles = amx_conv(call, target, source, w, s) or arm_conv(call, target, source, w, s)
    return [*stages, on_tiles or Direct(call, source, w, s, target).stage()]


def _as_matrix(data: np.ndarray) -> np.ndarray:
    return data.reshape(data.shape[0], -1).T


@dataclass(frozen=True)
class Runs:
    """The bytes that one output pixel sums: `count` runs in each kernel row, each `length` neighbours in memory."""

    count: int
    length: int

    @property
    def quads(self) -> int:
        """Quads of one run, the last one filled up."""
        return -(-self.length // QUAD)


def runs_of(s: ConvShape) -> Runs:
    """A whole kernel row where its columns are neighbours, else a column at a time."""
    whole = s.dilations[1] == 1 and s.group == 1
    return Runs(1, s.kernel[1] * s.channels) if whole else Runs(s.kernel[1], s.group_in)


def packed_runs(w: Tensor, s: ConvShape, runs: Runs, width: int) -> Const:
    """[O, I/g, kH, kW] -> [g * panels, kH * runs, quads, width * 4]."""
    panels, taps = -(-s.group_out // width), s.kernel[0] * runs.count

    def make() -> np.ndarray:
        data = np.asarray(w.data()).reshape(s.group, s.group_out, s.group_in, *s.kernel)  # type: ignore[misc]
        rows = data.transpose(0, 3, 4, 2, 1).reshape(s.group, taps, runs.length, s.group_out)
        packed = [[pack_quads(rows[g, t], width) for t in range(taps)] for g in range(s.group)]
        return np.concatenate([np.stack(group, axis=1) for group in packed])

    shape = (s.group * panels, taps, runs.quads, width * QUAD)
    return Const(shape, "int8", make, f"{w.name}:conv:g{s.group}:runs{runs.count}:quads{width}", f"{w.name}_packed")


class Direct:
    """A direct convolution without pads: tiles of neighbouring output pixels x output channels."""

    def __init__(self, call: Call, x: Leaf, w: Tensor, s: ConvShape, target: Target) -> None:
        self.call, self.s, self.target = call, s, target
        self.dot: Dot = dot_of(target)
        self.runs, self.signed = runs_of(s), x.dtype == "int8"
        steps = s.kernel[0] * self.runs.count * self.runs.quads
        lanes = self.dot.lanes
        if "mr" in call.config:
            tile = Tile(call.config["mr"], call.config["nr"] // lanes, lanes)
        else:
            tile = choose_tile(s.out_width, s.group_out, steps, target, s.out_height, max_rows=14)
        self.tile = fitting(target, self.dot, tile)
        self.panels = -(-s.group_out // self.tile.cols)
        types = "s8s8" if self.signed else "u8s8"
        kind = f"conv{s.kernel[0]}x{s.kernel[1]}_nhwc_{types}"
        self.b = Builder(f"{kind}_{self.tile.rows}x{self.tile.cols}_{target.isa}")
        self.image_leaf = x
        self.image = self.b.arg(x, (s.batch * s.height, s.width * s.channels))
        self.weights = self.b.arg(packed_runs(w, s, self.runs, self.tile.cols))
        self.out = self.b.arg(call.result)

    def stage(self) -> Stage:
        """Tasks are bands of output rows x panels of channels x groups."""
        b, s, panels = self.b, self.s, self.panels
        last = s.group_out - (panels - 1) * self.tile.cols
        rows = 1 if on_one_thread(self.target) else rows_of_task(s, self.tile, panels, self.target)
        bands = -(-s.out_height // rows)
        with b, b.parallel(simplify(s.batch * (bands * s.group * panels))) as p:
            panel = b.let(p % panels)
            group = b.let(p // panels % s.group) if s.group > 1 else tirx.const(0, "int64")
            first = b.let(p // (panels * s.group) % bands * rows)
            n = b.let(p // (panels * s.group * bands))

            def band(width: int) -> None:
                with b.serial(b.let(tirx.min(tirx.const(rows, "int64"), s.out_height - first)), "row") as r:
                    self.row(n, b.let(first + r), group, panel, width)

            if last == self.tile.cols or panels == 1:
                band(last)
            else:
                with b.when(panel < panels - 1):
                    band(self.tile.cols)
                with b.otherwise():
                    band(last)
        stage, batch = b.stage(), s.batch
        if not isinstance(batch, int):
            return stage
        line, read = s.out_width * s.out_channels, s.strides[0] * s.width * s.channels
        pieces = [
            ((n * s.out_height + min(first + rows, s.out_height)) * line,
             n * s.height * s.width * s.channels + first * read)
            for n in range(batch) for first in range(0, s.out_height, rows)
        ]  # fmt: skip
        return let_slide(stage, self.image_leaf, self.call.result, pieces, self.target)

    def row(self, n: tirx.Expr, oh: tirx.Expr, group: tirx.Expr, panel: tirx.Expr, width: int) -> None:
        """One output row of a panel."""
        whole, rest = divmod(self.s.out_width, self.tile.rows)
        if whole:
            with self.b.serial(whole, "tile") as t:
                self.pixels(
                    (n, oh), self.b.let(as_expr(t, "int64") * self.tile.rows), self.tile.rows, group, panel, width
                )
        if rest:
            self.pixels((n, oh), tirx.const(whole * self.tile.rows, "int64"), rest, group, panel, width)

    def pixels(
        self, place: tuple, first: tirx.Expr, count: int, group: tirx.Expr, panel: tirx.Expr, width: int
    ) -> None:  # fmt: skip
        """`count` output pixels from `first`, the first `width` channels of a panel."""
        b, s, tile, (n, oh) = self.b, self.s, self.tile, place
        acc = clear_sums(b, count, tile)
        with b.serial(s.kernel[0], "kh") as kh, b.serial(self.runs.count, "kw") as kw:
            line = b.let(n * s.height + oh * s.strides[0] + as_expr(kh, "int64") * s.dilations[0])
            column = b.let(first * s.strides[1] + as_expr(kw, "int64") * s.dilations[1])
            base = b.let(column * s.channels + group * s.group_in)
            block = b.let(group * self.panels + panel)
            tap = b.let(as_expr(kh, "int64") * self.runs.count + as_expr(kw, "int64"))
            self.run(acc, count, (line, base), (block, tap))
        channel = b.let(group * s.group_out + panel * tile.cols)

        def write(value: tirx.Expr, i: tirx.Expr, c: tirx.Expr) -> None:
            at = (n, oh, first + i, channel + c)
            b.bind(self.call.outputs[0], lambda *_: value)
            b.share(at, self.call.result.shape)
            b.store(self.out, at, self.call.final(*at))

        store_tile(b, acc, count, width, tile, write)

    def run(self, acc: tirx.Var, count: int, at: tuple, weights_at: tuple) -> None:
        """Adds one run of bytes to every pixel of the tile."""
        (line, base), (block, tap), wide = at, weights_at, QUAD * self.tile.lanes
        step = self.s.strides[1] * self.s.channels

        def left(i: int, k: Index, known: int) -> tirx.Expr:
            place = base + as_expr(k, "int64") + i * step
            if known == QUAD:
                return load_word(self.image, line, place)
            return bytes_as_word(lambda n: self.image[line, place + n], known)

        def weights(quad: Index, j: int) -> tirx.Expr:
            start = tirx.const(j * wide, "int64")
            return load_vector(self.weights, block, tap, as_expr(quad, "int64"), start, count=wide)

        sum_quads(
            self.b, acc, range(count), self.tile, self.dot, self.runs.length, left, self.signed, weights
        )  # fmt: skip
