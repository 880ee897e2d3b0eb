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


def tail_of(call: Call, terms: int, target: Target) -> Tail | None:
    """The tail of a call whose sums have `terms` products, where those kernels can do it."""
    if not isinstance(target, Microcontroller) or target.dot != "smlad" or not target.fma:
        return None
    found = packed_requantization(call, terms, LIMIT)
    if found is None or (found.dtype, found.low, found.high) != ("int8", -128, 127):
        return None
    channels = call.outputs[0].shape[-1]
    bias, multiplier = (
        np.broadcast_to(np.asarray(t.data()).reshape(-1), (channels,)) for t in (found.bias, found.multiplier)
    )  # type: ignore[misc]
    return Tail(bias.astype(np.int32), multiplier.astype(np.float32), found.zero)


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
