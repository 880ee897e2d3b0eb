"""Depthwise convolution over NHWC: vectors of channels, several neighbouring output pixels at once.

For one kernel row, each input pixel of the tile is loaded once and used by every output pixel it belongs to. Tiles that
touch the left or right border are emitted apart with the taps inside the image; the kernel's rows are cut to the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape, kernel_rows
from .registry import Call
from .slides import let_slide, on_one_thread
from .stage import Const, Leaf, Stage
from .tensor import Index, Tensor, simplify
from .tiles import chunks


@dataclass(frozen=True)
class DepthwisePlan:
    """Output pixels a tile, output rows and channel vectors a task."""

    pixels: int
    rows: int
    vectors: int


def plan(call: Call, s: ConvShape, target: Target) -> DepthwisePlan:
    """Sizes from the tuning records, else: accumulators in registers, all channels where they allow even tasks."""
    lanes = target.lanes("float32")
    pixels = call.config.get("pixels") or default_pixels(s, target)
    vectors = -(-s.channels // lanes)

    def cost(choice: tuple[int, int]) -> float:
        rows, chunk = choice
        tasks = -(-s.out_height // rows) * -(-vectors // chunk)
        two, four = (-(-tasks // n) * n * rows * chunk / (s.out_height * vectors) for n in (2, 4))
        # a band reads its first rows again, a part of the channels jumps through memory, a task costs a little
        again = 0.1 * max(0, s.kernel[0] - s.strides[0]) / (rows * s.strides[0])
        return two + 0.25 * four + again + 0.1 * (1 - chunk / vectors) + tasks * 1e-3

    parts = {-(-vectors // n) for n in (1, 2, 3, 4, 6, 8)}
    rows, chunk = min(((r, v) for r in range(1, s.out_height + 1) for v in sorted(parts)), key=cost)
    return DepthwisePlan(pixels, call.config.get("rows", rows), call.config.get("vectors", chunk))


def default_pixels(s: ConvShape, target: Target) -> int:
    """Pixels of a tile: what the registers hold beside one kernel row and an input, in even shares of the row."""
    # a window of three is bound by memory, and narrow strips read it in shorter jumps
    room = min(8 if s.kernel[1] <= 3 else 14, target.registers - s.kernel[1] - 3)
    if s.out_width <= room:
        return s.out_width
    return min(range(max(4, room // 2), room + 1), key=lambda p: (-(-s.out_width // p) * p, -p))


def depthwise_space(s: ConvShape, target: Target) -> list[dict[str, int]]:
    """Plans worth measuring: pixels of a tile, output rows and channel vectors of a task."""
    vectors = -(-s.channels // target.lanes("float32"))
    room = min(14, target.registers - s.kernel[1] - 3, s.out_width)
    widths = sorted({min(4, room), min(7, room), min(8, room), room})
    heights = sorted({max(1, s.out_height // n) for n in (2, 4, 8)})
    parts = sorted({vectors, -(-vectors // 2), -(-vectors // 4)})
    return [{"pixels": p, "rows": r, "vectors": v} for p in widths for r in heights for v in parts]


def packed_taps(w: Tensor, s: ConvShape, lanes: int) -> Const:
    """[C, 1, kH, kW] -> [ceil(C / lanes), kH, kW, lanes], zero-padded."""
    kh, kw = s.kernel
    blocks = -(-s.channels // lanes)

    def make() -> np.ndarray:
        data = np.asarray(w.data()).reshape(s.channels, kh, kw)  # type: ignore[misc]
        wide = np.zeros((blocks * lanes, kh, kw), data.dtype)
        wide[: s.channels] = data
        return np.ascontiguousarray(wide.reshape(blocks, lanes, kh, kw).transpose(0, 2, 3, 1))

    return Const((blocks, kh, kw, lanes), w.dtype, make, f"{w.name}:depthwise:{lanes}", f"{w.name}_packed")


def depthwise(call: Call, x: Leaf, w: Tensor, s: ConvShape, target: Target) -> Stage:
    """X [N, H, W, C], W [C, 1, kH, kW]; every channel by itself, multiplier 1."""
    return _Kernel(call, x, w, s, target).stage()


class _Kernel:
    """One depthwise kernel. A place is (image, output row), a piece (channel block, offset, width)."""

    dtype = "float32"  # of the sums

    def __init__(self, call: Call, x: Leaf, w: Tensor, s: ConvShape, target: Target) -> None:
        self.call, self.s, self.source, self.target = call, s, x, target
        self.lanes = target.lanes("float32")
        self.plan = plan(call, s, target)
        if on_one_thread(target):  # row by row, which needs the least memory
            self.plan = DepthwisePlan(self.plan.pixels, 1, -(-s.channels // self.lanes))
        kind, isa = f"depthwise{s.kernel[0]}x{s.kernel[1]}", target.name.split("-")[-1]
        name = f"{kind}_nhwc_f32_{self.plan.pixels}x{self.lanes}_{isa}"
        self.b = Builder(name)
        self.image = self.b.arg(x, (s.batch * s.height, s.width, s.channels))
        self.taps, self.out = self.b.arg(packed_taps(w, s, self.lanes)), self.b.arg(call.result)

    def stage(self) -> Stage:
        """Tasks are bands of output rows x chunks of channels; inside one, strips of pixels from top to bottom."""
        b, s, pixels = self.b, self.s, self.plan.pixels
        bands = -(-s.out_height // self.plan.rows)
        vectors = -(-s.channels // self.lanes)
        chunks_ = -(-vectors // self.plan.vectors)
        with b, b.parallel(simplify(s.batch * (bands * chunks_))) as p:
            chunk = b.let(p % chunks_)
            first_row = b.let(p // chunks_ % bands * self.plan.rows)
            rows = b.let(tirx.min(tirx.const(self.plan.rows, "int64"), s.out_height - first_row))
            band = (b.let(p // (chunks_ * bands)), first_row, rows, chunk, chunks_)
            before, inner, after = s.border_tiles(pixels)
            for first in before:
                self.strip(band, first, min(pixels, s.out_width - first))
            if len(inner):
                with b.serial(len(inner), "tile") as t:
                    self.strip(band, b.let((t + inner.start) * pixels), pixels)
            for first in after:
                self.strip(band, first, min(pixels, s.out_width - first))
        stage = b.stage()
        if not isinstance(s.batch, int) or chunks_ != 1:
            return stage
        line, read, rows = s.out_width * s.channels, s.width * s.channels, self.plan.rows
        pieces = [
            ((n * s.out_height + min(top + rows, s.out_height)) * line,
             (n * s.height + min(max(0, top * s.strides[0] - s.pads[0]), s.height)) * read)
            for n in range(s.batch) for top in range(0, s.out_height, rows)
        ]  # fmt: skip
        return let_slide(stage, self.source, self.call.result, pieces, self.target)

    def strip(self, band: tuple, first: Index, count: int) -> None:
        """`count` pixels from `first` of every row of the band, for every channel of the chunk."""
        b, (n, first_row, rows, chunk, chunks_) = self.b, band
        whole, rest = divmod(self.s.channels, self.lanes)
        with b.serial(rows, "row") as r:
            oh = b.let(first_row + r)
            start = b.let(chunk * self.plan.vectors)
            if whole:
                with b.serial(b.let(tirx.min(tirx.const(self.plan.vectors, "int64"), whole - start)), "c") as c:
                    self.pixels((n, oh), first, count, (b.let(start + c), 0, self.lanes))
            if rest:
                with b.when(chunk == chunks_ - 1):
                    for offset, width in chunks(rest, self.lanes):
                        self.pixels((n, oh), first, count, (whole, offset, width))

    def pixels(self, place: tuple, first: Index, count: int, piece: tuple) -> None:
        """One tile: start, add every kernel row inside the image, store through the fused tail."""
        b, s, (n, oh), (block, offset, width) = self.b, self.s, place, piece
        sh, dh, top = s.strides[0], s.dilations[0], s.pads[0]
        acc = b.local((count, width), self.dtype)
        with b.unroll(count) as i, b.vector(width) as v:
            b.store(acc, (i, v), self.start(block * self.lanes + offset + v))
        low, extent = kernel_rows(b, s, oh)
        with b.serial(extent, "kh", low) as tap:
            self.tap_row(acc, (b.let(n * s.height + oh * sh + (tap * dh - top)), tap), first, count, piece)
        with b.unroll(count) as i, b.vector(width) as v:
            at = (n, oh, first + i, block * self.lanes + offset + v)
            b.bind(self.call.outputs[0], lambda *_: acc[i, v])
            b.share(at, self.call.result.shape)
            b.store(self.out, at, self.call.final(*at))

    def start(self, channel: tirx.Expr) -> tirx.Expr:
        """What the sums of a channel start from."""
        return tirx.const(0.0, "float32")

    def tap_row(self, acc: tirx.Var, row: tuple, first: Index, count: int, piece: tuple) -> None:
        """Adds one kernel row: input pixel by input pixel, each to every output that it reaches."""
        b, s, (line, tap), (block, offset, width) = self.b, self.s, row, piece
        kw, sw, dw, left = s.kernel[1], s.strides[1], s.dilations[1], s.pads[1]
        reach = [s.reach(k, first, count) if isinstance(first, int) else range(count) for k in range(kw)]
        for column in sorted({i * sw + k * dw for k in range(kw) for i in reach[k]}):
            for k in range(kw):
                i, odd = divmod(column - k * dw, sw)
                if odd or i not in reach[k]:
                    continue
                with b.vector(width) as v:
                    value = self.image[line, first * sw + (column - left), block * self.lanes + offset + v]
                    b.store(acc, (i, v), acc[i, v] + value * self.taps[block, tap, k, offset + v])
