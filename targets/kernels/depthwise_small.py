"""Depthwise convolution of bytes for Cortex-M: one loop nest without special cases, so that the code is small.

Every output pixel goes over the taps inside the image only, for as many channels at once as there are registers for.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape, conv_shape
from .depthwise import packed_taps
from .depthwise_widened import tap_sums
from .dot import QUAD, dot_of, load_word
from .dot_dsp import dsp, turned
from .registry import Call, template
from .slides import let_slide
from .stage import Stage
from .tensor import Index, as_expr, simplify
from .tiles import chunks

VECTORS = 4  # of channels at once
NARROW = 8  # output pixels a row: as many are one tile of the other template, faster and small as well


@template("edgert.Conv2dInteger", family="mcu")
def depthwise_small(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] uint8 or int8, W int8 [C, 1, kH, kW] constant; taps outside the image read input 2 (a byte)."""
    s = conv_shape(call)
    if target.dot not in ("mve", "smlad") or s is None or not s.is_depthwise or not isinstance(s.batch, int):
        return None
    if call.need(0).dtype not in ("uint8", "int8") or call.need(1).dtype != "int8":
        return None
    if target.dot == "smlad" and (s.channels % QUAD or call.need(2).data is None or s.out_width <= NARROW):
        return None
    pairs = target.dot == "smlad"
    return [(_PairKernel if pairs else _Kernel)(call, s, target).stage()]


class _Kernel:
    """sum(x * w) over all taps is zero * sum(w) plus the sum over those inside of (x - zero) * w."""

    def __init__(self, call: Call, s: ConvShape, target: Target) -> None:
        self.call, self.s, self.target = call, s, target
        self.x, w, zero = call.need(0), call.need(1), call.need(2)
        self.lanes = dot_of(target).lanes
        self.group = VECTORS * self.lanes if target.dot == "mve" else QUAD
        while self.group > self.lanes and s.channels % self.group:
            self.group //= 2
        types = "s8s8" if self.x.dtype == "int8" else "u8s8"
        b = self.b = Builder(f"depthwise{s.kernel[0]}x{s.kernel[1]}_nhwc_{types}_{self.group}_{target.isa}")
        self.image = b.arg(self.x, (s.batch * s.height, s.width, s.channels))
        self.taps, self.sums = b.arg(packed_taps(w, s, self.group)), b.arg(tap_sums(w, s.channels, self.group))
        self.out = b.arg(call.result)
        self.zero = b.arg(zero)[(0,) * max(1, zero.ndim)].astype("int32")

    def stage(self) -> Stage:
        """Output pixels from front to back, all channels of each."""
        b, s = self.b, self.s
        whole, rest = divmod(s.channels, self.group)
        with b, b.parallel(simplify(s.batch * s.out_height)) as p:
            line = p.astype("int32")  # 64-bit bounds of loops would be pairs of registers
            n, oh = b.let(line // s.out_height), b.let(line % s.out_height)
            rows = self.inside(0, oh)
            with b.serial(s.out_width, "ow") as ow:
                at, columns = (n, oh, ow), self.inside(1, ow)
                if whole:
                    with b.serial(whole, "block") as block:
                        self.channels(at, rows, columns, (block, 0, self.group))
                for offset, width in chunks(rest, self.lanes):
                    self.channels(at, rows, columns, (as_expr(whole), offset, width))
        line, read = s.out_width * s.channels, s.width * s.channels
        pieces = [
            ((n * s.out_height + oh + 1) * line,
             (n * s.height + min(max(0, oh * s.strides[0] - s.pads[0]), s.height)) * read)
            for n in range(int(s.batch)) for oh in range(s.out_height)
        ]  # fmt: skip
        return let_slide(b.stage(), self.x, self.call.result, pieces, self.target)

    def inside(self, axis: int, out: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, Index]:
        """Along one axis: the first tap inside the image, the place that it reads, and how many taps are inside.

        The place is a maximum rather than the tap's own, which LLVM would spread over all addresses as a constant.
        """
        b, s = self.b, self.s
        size, taps, pad = (s.height, s.width)[axis], s.kernel[axis], s.pads[axis]
        step, wide = s.strides[axis], s.dilations[axis]
        place = b.let(out * step - pad)
        if not pad and not s.pads[axis + 2]:
            return as_expr(0), place, taps
        low = b.let(tirx.max(tirx.truncdiv(wide - 1 - place, tirx.const(wide, "int32")), 0))
        end = tirx.min(tirx.truncdiv(size - 1 - place + wide, tirx.const(wide, "int32")), taps)
        start = tirx.max(place, 0) if wide == 1 else place + low * wide
        return low, b.let(start), b.let(tirx.max(end - low, 0))

    def channels(self, at: tuple, rows: tuple, columns: tuple, piece: tuple) -> None:
        """`width` channels of one output pixel."""
        b, s, (n, oh, ow), (block, offset, width) = self.b, self.s, at, piece
        first = b.let(block * self.group + offset)
        parts = chunks(width, self.lanes)
        acc = b.local((width,), "int32")
        for start, lanes in parts:
            with b.vector(lanes) as v:
                b.store(acc, start + v, self.zero * self.sums[first + start + v])
        with b.serial(rows[2], "kh") as i:
            kh, line = b.let(rows[0] + i), b.let(n * s.height + rows[1] + i * s.dilations[0])
            with b.serial(columns[2], "kw") as j:
                kw, column = b.let(columns[0] + j), b.let(columns[1] + j * s.dilations[1])
                self.tap(acc, parts, (line, column, first), (block, kh, kw, as_expr(offset)))
        for start, lanes in parts:
            with b.vector(lanes) as v:
                place = (n, oh, ow, first + (start + v))
                b.bind(self.call.outputs[0], lambda *_, c=start + v: acc[c])
                b.share(place, self.call.result.shape)
                b.store(self.out, place, self.call.final(*place))

    def tap(self, acc: tirx.Var, parts: list[tuple[int, int]], place: tuple, weights: tuple) -> None:
        """Adds one tap to the sums of its channels."""
        (line, column, first), (block, kh, kw, offset) = place, weights
        for start, lanes in parts:
            with self.b.vector(lanes) as v:
                c = start + v
                value = self.image[line, column, first + c].astype("int32") - self.zero
                self.b.store(acc, c, acc[c] + value * self.taps[block, kh, kw, offset + c].astype("int32"))


class _PairKernel(_Kernel):
    """With DSP instructions: bytes are widened two at once, less the zero point for nothing (SXTAB16), and SMLABB and
    SMLATT multiply the halves where they are.
    """

    def tap(self, acc: tirx.Var, parts: list[tuple[int, int]], place: tuple, weights: tuple) -> None:
        """Adds one tap to the sums of its channels, four at a time."""
        b, (line, column, first), (block, kh, kw, offset) = self.b, place, weights
        minus = -int(np.asarray(self.call.need(2).data()).reshape(-1)[0]) & 0xFFFF  # type: ignore[misc]
        both = tirx.const(int(np.uint32(minus * 0x10001).view(np.int32)), "int32")
        name = "sxtab16" if self.x.dtype == "int8" else "uxtab16"
        for start in range(0, sum(lanes for _, lanes in parts), QUAD):
            word = b.let(load_word(self.image, line, column, first + start))
            weight = b.let(load_word(self.taps, block, kh, kw, offset + start))
            for odd in (0, 1):
                x = b.let(dsp(name, both, turned(word) if odd else word))
                w = b.let(dsp("sxtb16", turned(weight) if odd else weight))
                for c, half in ((start + odd, "smlabb"), (start + odd + 2, "smlatt")):
                    b.store(acc, c, dsp(half, x, w, acc[c]))
