"""Requantization on microcontrollers: clamped as an integer (SSAT), where the rounding trick holds for every sum.

Maxima and minima of floats are a comparison, a move of flags and a conditional move each, or calls where there is no
FPU. The bits stay: the bounds are integers, so clamping after rounding gives what clamping before it gives.
"""

from __future__ import annotations

import math

from tvm import tirx

from targets.target import Target

from .registry import Call, template
from .requantize import packed_requantization, per_channel
from .rounding import rounded
from .stage import Stage
from .tensor import Index, compute
from .vmath import fence

LIMIT = 2**21  # the trick rounds what is below 2^22


@template("edgert.Conv2dInteger", family="mcu")
@template("edgert.GemmInteger", family="mcu")
@template("edgert.SumPool2d", family="mcu")
def clamp_integers(call: Call, target: Target) -> list[Stage] | None:
    """Takes no call, but gives those whose tail is a requantization of small numbers the shorter form of it."""
    if "kernel_shape" in call.attrs and call.op == "edgert.SumPool2d":
        sizes = call.attrs["kernel_shape"]
    else:
        sizes = call.need(1).shape[1:] if call.op == "edgert.Conv2dInteger" else call.need(0).shape[-1:]
    if not all(isinstance(n, int) for n in sizes):
        return None
    found = packed_requantization(call, math.prod(int(n) for n in sizes), LIMIT)
    if found is None:
        return None
    acc, bias, multiplier = found.acc, found.bias, found.multiplier

    def of(*i: Index) -> tirx.Expr:
        total = (acc(*i) + per_channel(bias, acc, i)).astype("float32")
        # ONNX Runtime rounds the product and then the sum: a fused multiply-add, which LLVM may form, rounds once
        product = fence(total * per_channel(multiplier, acc, i))
        value = rounded(product, found.zero)
        low, high = (tirx.const(n, "int32") for n in (found.low, found.high))
        return tirx.max(tirx.min(value, high), low).astype(found.dtype)

    made = compute(acc.shape, found.dtype, of, [acc, bias, multiplier], "requantize")
    made.meaning = found
    call.final = made
    return None
