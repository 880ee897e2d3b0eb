"""What kernels in assembly for Cortex-M's DSP instructions and FPU share (targets/firmware/*_dsp.S).

They requantize to all of int8: float32(sum) times a multiplier, rounded by adding 1.5 * 2^23, saturated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from targets.microcontroller import Microcontroller
from targets.target import Target

from .builder import Builder
from .integer_clamp import LIMIT
from .registry import Call
from .requantize import packed_requantization
from .rounding import MAGIC_BITS
from .stage import Const, Leaf

FAST = "fast"  # among a call's tiles: speed counts more than bytes
SHARED = "shared"  # in a record's tiles: 0 where a kernel of the layer's own is better than these


@dataclass(frozen=True)
class Tail:
    """What a sum is requantized with: int32 bias and float32 multiplier of each channel, the result's zero point."""

    bias: np.ndarray
    multiplier: np.ndarray
    zero: int

    @property
    def magic(self) -> int:
        """What the bits of a rounded float are larger by than the result."""
        return MAGIC_BITS - self.zero


def tail_of(call: Call, weights: np.ndarray, target: Target) -> tuple[Tail, np.ndarray] | None:
    """The tail of a call with int8 weights [channels, ...], and these, where those kernels can do it: sums of 24 bits,
    products of 22. Channels whose result is one number whatever is read get that as their bias, and no weights: biases
    beyond those bounds are found with them.
    """
    if not isinstance(target, Microcontroller) or target.dot != "smlad" or not target.fma:
        return None
    found = packed_requantization(call, 0, 1 << 62)
    if found is None or (found.dtype, found.low, found.high) != ("int8", -128, 127):
        return None
    reach = 128 * np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(1)
    bias, multiplier = (
        np.broadcast_to(np.asarray(t.data()).reshape(-1), reach.shape)  # type: ignore[misc]
        for t in (found.bias, found.multiplier)
    )
    if multiplier.min(initial=0) < 0:
        return None
    ends = [np.rint((bias + n).astype(np.float32) * multiplier) + found.zero for n in (-reach, reach)]
    least, most = (np.clip(end, -128, 127) for end in ends)
    still = least == most
    bias = np.where(still, least - found.zero, bias).astype(np.int64)
    multiplier = np.where(still, np.float32(1), multiplier)
    moving = np.where(still.reshape(-1, *[1] * (weights.ndim - 1)), np.int8(0), weights)
    largest = np.abs(bias) + np.where(still, 0, reach)
    if largest.max(initial=0) >= 1 << 23 or (largest * multiplier).max(initial=0) >= LIMIT:
        return None
    return Tail(bias.astype(np.int32), multiplier.astype(np.float32), found.zero), moving


def words(name: str, data: np.ndarray) -> Const:
    """A constant of int32 under a key of its contents."""
    held = np.ascontiguousarray(data, np.int32)
    seen = hashlib.sha256(held.tobytes()).hexdigest()
    return Const(held.shape, "int32", lambda: held, f"{name}:{held.shape}:{seen}", name)


def emit_call(b: Builder, function: str, operands: Sequence[Leaf]) -> None:
    """The kernel's one statement: function(address of each operand)."""
    places = [tirx.address_of(b.arg(leaf)[(0,) * len(leaf.shape)]) for leaf in operands]
    with b.parallel(1):
        b.emit(tirx.Evaluate(tirx.call_extern("int32", function, *places)))
