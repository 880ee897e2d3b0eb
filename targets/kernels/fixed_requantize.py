"""Requantization by 32-bit integers that gives the bits of the one in floats, for cores without an FPU.

What floats give is rint(float32(t m)) of the sum t. Integers give t m with `shift` bits behind the point, a few units
of the last off; floats round t m by 2^-24 of itself, which is at most 2^5 of these units. So both round to the same
integer where t m is farther than all that from the middle between two. Elsewhere, once in many thousand times, floats
are asked: in software, which is why they are asked no more often.

t M, with M the integer next to m 2^(shift + 2 LIMB), takes three products of 32 bits: M is cut in two limbs and what is
above them, of 30 - b bits, and sums are clamped to b bits, where the result has long been clamped, so that nothing
overflows. All of it is one function (targets/firmware/requantize.c): in line it would be there many times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from .requantize import per_channel
from .tensor import Index, Tensor, compute

LIMB, SUM_BITS, MANTISSA = 9, 30, 24
FUNCTION = "edgert_requantized"  # targets/firmware/requantize.c


@dataclass(frozen=True)
class Fixed:
    """factors: M of each channel, int32. bits: b, or 0 where no sum can have more. doubt: so many units from the middle
    floats are asked. exact: whether M is m 2^(shift + 2 LIMB), so that it stands for m there, too."""

    factors: np.ndarray
    shift: int
    bits: int
    doubt: int
    exact: bool


def fixed(multiplier: np.ndarray, low: int, high: int, reach: np.ndarray) -> Fixed | None:
    """The numbers for rint(float32(t * multiplier)) within low and high, |t| <= reach; None where there are none.

    multiplier: float32 [C], not negative; reach: integers [C].
    """
    m, most = multiplier.astype(np.float64), float(multiplier.max(initial=0))
    if not np.isfinite(most) or reach.max(initial=0) >= 1 << 31:
        return None
    ends = np.minimum(reach, (max(abs(low), abs(high)) + 2) / np.maximum(m, 2.0**-60))  # beyond them nothing changes
    if ends.max(initial=0) >= 1 << MANTISSA:
        return None  # such sums are rounded when they become floats
    bits = int(ends.max(initial=0) + 1).bit_length()
    largest = (1 << min(31, SUM_BITS + 2 * LIMB - bits)) - 1
    power = int(np.floor(np.log2(largest / max(most, 2.0**-20))))
    shift = power - 2 * LIMB
    scaled = m * 2.0**power
    factors = np.rint(scaled)
    # floats' own rounding; that of the two shifts; that of M
    doubt = (1 << SUM_BITS - MANTISSA - 1) + 2 + (1 << max(0, bits - 1 - 2 * LIMB))
    if not 1 <= shift < SUM_BITS or doubt * 16 > 1 << shift:
        return None
    clamps = bool(reach.max(initial=0) >= 1 << bits)
    return Fixed(factors.astype(np.int32), shift, bits if clamps else 0, doubt, bool((factors == scaled).all()))


def requantize_fixed(
    acc: Tensor, bias: Tensor, factors: Tensor, multiplier: Tensor | None, how: tuple[int, int, int],
    bounds: tuple[int, int, int], dtype: str,
) -> Tensor:  # fmt: skip
    """clamp(rint(float32(acc + bias) * multiplier) + zero, low, high) as `dtype`; `bounds` are zero, low, high.

    acc: int32 [..., C]; bias and factors int32 [C] or [1], multiplier float32 [C] or [1], None where factors are exact.
    how: shift, bits and doubt of Fixed.
    """
    (shift, bits, doubt), (zero, low, high) = how, bounds
    packed = tirx.const(shift | (bits or 31) << 5 | doubt << 10, "uint32")

    def const(value: int) -> tirx.Expr:
        return tirx.const(value, "int32")

    def of(*i: Index) -> tirx.Expr:
        total = acc(*i) + per_channel(bias, acc, i)
        scale = const(0) if multiplier is None else tirx.reinterpret("int32", per_channel(multiplier, acc, i))
        value = tirx.call_pure_extern("int32", FUNCTION, total, per_channel(factors, acc, i), packed, scale)
        return tirx.max(tirx.min(value + const(zero), const(high)), const(low)).astype(dtype)

    leaves = [acc, bias, factors, *([] if multiplier is None else [multiplier])]
    return compute(acc.shape, dtype, of, leaves, "requantize")
