"""Convolutions and products of int8 on Cortex-M by one function for all shapes (targets/firmware/product_dsp.c).

A 16-bit number holds the weights of two output channels, 256 w1 + w0 + 128. SMLAD takes it as it is, for the sum of
x (256 w1 + w0 + 128); one UXTB16 widens its low bytes for that of x (w0 + 128). The former may wrap around in 32 bits,
what remains of it without the latter does not: 256 S1, where |S1| < 2^23. And S0 is the latter less 128 times the sum
of x, which is the same for all channels. So 16 products take 12 instructions in a tile of 4 pixels x 2 channels, and
weights stay bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape, conv_shape
from .dsp_calls import FAST, SHARED, Tail, emit_call, tail_of, words
from .registry import Call, template
from .slides import let_slide
from .stage import Const, Stage, Temp

MOST = 4  # pixels of a tile; those left over are tiles of one
UNROLL = 4  # pairs of numbers in a turn of its loop
MOST_RUN = 256  # bytes of a run in an image with pads: product_dsp.c
WIDTHS = (1, 2, 3, 4, 6, 8)  # pixels of a depthwise tile on cores without those instructions
FUNCTION = "edgert_dsp_product"  # and the pixels of a tile


@template("edgert.Conv2dInteger", family="mcu")
def conv2d_dsp(call: Call, target: Target) -> list[Stage] | None:
    """X [1, H, W, C] int8 * constant W int8 [O, C, kH, kW] -> int8 [1, OH, OW, O]; input 2: the pads' byte."""
    s, zero = conv_shape(call), call.need(2)
    if s is None or s.group != 1 or s.dilations[1] != 1 or (s.batch != 1 and not s.is_matrix):
        return None
    if not isinstance(s.batch, int) or (any(s.pads) and (zero.data is None or s.kernel[1] * s.channels > MOST_RUN)):
        return None
    pad = int(np.asarray(zero.data()).reshape(-1)[0]) if zero.data is not None else 0
    return _product(call, s, pad, lambda w: w.transpose(0, 2, 3, 1), target)


@template("edgert.GemmInteger", family="mcu")
def gemm_dsp(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] int8 x B [K, N] (transB: [N, K]) constant int8 -> int8."""
    a, swapped = call.need(0), bool(call.attrs.get("transB", 0))
    *lead, cols = call.outputs[0].shape
    if not all(isinstance(n, int) and n > 0 for n in (*a.shape, cols)):
        return None
    rows, depth = math.prod(int(n) for n in lead), int(a.shape[-1])
    s = ConvShape(1, 1, rows, depth, 1, rows, int(cols), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1)
    return _product(call, s, 0, lambda w: (w if swapped else w.T)[:, None, None], target)


def _product(call: Call, s: ConvShape, pad: int, order, target: Target) -> list[Stage] | None:  # type: ignore[no-untyped-def]
    """order: the weights as [O, kH, kW, C]."""
    x, w = call.need(0), call.need(1)
    if not call.config.get(SHARED, 1) or x.dtype != "int8" or w.dtype != "int8" or w.data is None or s.out_channels % 2:
        return None
    weights = order(np.asarray(w.data())).reshape(s.out_channels, s.kernel[0], -1)
    found = tail_of(call, weights, target)
    if found is None:
        return None
    tail, weights = found
    return [_Product(call, s, words(f"{w.name}_packed", pack(weights, tail)), tail, pad).stage(target)]


def pairs_of(run: int) -> list[tuple[int, int | None]]:
    """Which bytes of a run are multiplied together: 0 and 2, 1 and 3 of each word, then neighbours."""
    whole = run - run % 4
    found: list[tuple[int, int | None]] = [(k + i, k + i + 2) for k in range(0, whole, 4) for i in (0, 1)]
    return found + [(k, k + 1 if k + 1 < run else None) for k in range(whole, run, 2)]


def pack(weights: np.ndarray, tail: Tail) -> np.ndarray:
    """int8 [O, runs, run] -> int32 [O / 2, 4 + pairs]: 256 b1, b0, m0, m1 / 256, then two numbers a word."""
    wide, bias = weights.astype(np.int64), tail.bias.astype(np.int64)
    both = 256 * wide[1::2] + wide[::2] + 128
    pairs = pairs_of(weights.shape[2])
    low = both[:, :, [k for k, _ in pairs]]
    high = np.stack([both[:, :, k] if k is not None else np.zeros_like(both[:, :, 0]) for _, k in pairs], 2)
    numbers = ((low & 0xFFFF) | (high & 0xFFFF) << 16).reshape(len(both), -1)
    numbers = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % UNROLL)))
    start = np.stack([256 * bias[1::2], bias[::2]], 1)
    scale = np.stack([tail.multiplier[::2], tail.multiplier[1::2] / np.float32(256)], 1).view(np.int32)
    return np.concatenate([start, scale, numbers], 1).astype(np.uint32).view(np.int32)


@dataclass(frozen=True)
class _Product:
    call: Call
    s: ConvShape
    weights: Const
    tail: Tail
    pad: int

    def stage(self, target: Target) -> Stage:
        """Tiles of pixels from front to back, all channels of each."""
        call, s = self.call, self.s
        pixels = int(s.batch) * s.out_height * s.out_width
        tile = call.config.get("tile") or (tile_for(pixels) if call.config.get(FAST) else MOST)
        numbers = self.weights.shape[1] - 4
        held = Temp(((1 + numbers) * min(tile, pixels),), "int32", "widened")
        b = Builder(f"conv{s.kernel[0]}x{s.kernel[1]}_nhwc_s8s8_dsp_{tile}x2_{target.isa}")
        line = s.width * s.channels
        shape = [s.out_channels // 2, 4 * numbers, s.out_channels, self.tail.magic, pixels, s.out_width, s.height,
                 line, s.kernel[0], s.kernel[1] * s.channels, s.dilations[0], s.strides[0],
                 s.strides[1] * s.channels, s.pads[0], s.pads[1] * s.channels, self.pad]  # fmt: skip
        if s.is_matrix:  # all pixels are one line
            shape[5:8] = [pixels, 1, pixels * s.channels]
        x = call.need(0)
        with b:
            emit_call(b, f"{FUNCTION}{tile}", [x, self.weights, call.result, held, words("shape", np.array(shape))])
        return let_slide(b.stage(), x, call.result, _pieces(s, pixels, tile), target)


_COST = {1: 2.0, 2: 2.2, 3: 2.6, 4: 3.2}  # of a tile, in instructions for each number of the depth, about


def tile_for(pixels: int) -> int:
    """Pixels of a tile where speed is wanted and nothing was measured."""
    return min(_COST, key=lambda n: (pixels // n * _COST[n] + pixels % n * _COST[1], -n))


def _pieces(s: ConvShape, pixels: int, tile: int) -> Sequence[tuple[int, int]]:
    """For let_slide: of each tile, what is written when it is done and what later ones read first."""

    def reads(pixel: int) -> int:
        if s.is_matrix:
            return pixel * s.channels
        return max(0, pixel // s.out_width * s.strides[0] - s.pads[0]) * s.width * s.channels

    return [(min(at + tile, pixels) * s.out_channels, reads(at)) for at in range(0, pixels, tile)]


def space(call: Call, target: Target) -> list[dict[str, int]]:
    """What `edgert tune` counts: tiles of this kernel, or of the templates that write a kernel of the layer's own."""
    if target.dot not in ("smlad", "portable"):
        return []
    s = conv_shape(call) if call.op == "edgert.Conv2dInteger" else None
    if s is not None and s.is_depthwise:
        return [{"turned": 0}, {"turned": 1}, {SHARED: 0}] if target.dot == "smlad" else [{"pixels": n} for n in WIDTHS]
    if target.dot == "smlad":
        return [*({"tile": n} for n in range(MOST, 0, -1)), {SHARED: 0}]
    return [{"mr": rows, "nr": cols} for cols in (2, 4) for rows in (1, 2, 3, 4)]


conv2d_dsp.space = space  # type: ignore[attr-defined]
gemm_dsp.space = space  # type: ignore[attr-defined]
