"""Requantization: int32 sums to bytes. As an expression for any kernel's tail, and as what templates may recognise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from .registry import Call
from .rounding import to_integer
from .tensor import Index, Tensor, as_expr, compute, same_dim


@dataclass(frozen=True)
class Requantization:
    """clamp(round_half_to_even(float32(acc + bias) * multiplier) + zero, low, high) as `dtype`.

    acc: int32 [..., C]; bias int32 [C] or [1]; multiplier float32 [C] or [1]. ONNX Runtime's QLinearConv does the same.
    """

    acc: Tensor
    bias: Tensor
    multiplier: Tensor
    zero: int
    low: int
    high: int
    dtype: str

    def clamped(self, packed: tirx.Expr, lanes: int) -> tirx.Expr:
        """Bytes that saturating instructions made, within low and high where these are tighter."""
        info = np.iinfo(self.dtype)
        if self.low > info.min:
            packed = tirx.max(packed, tirx.Broadcast(tirx.const(self.low, self.dtype), lanes))
        if self.high < info.max:
            packed = tirx.min(packed, tirx.Broadcast(tirx.const(self.high, self.dtype), lanes))
        return packed


def per_channel(t: Tensor, acc: Tensor, i: tuple[Index, ...]) -> tirx.Expr:
    """One number, or that of the last axis."""
    one = t.ndim == 0 or same_dim(t.shape[0], 1) and not same_dim(acc.shape[-1], 1)
    return t(*[as_expr(0) if one else i[-1]] * t.ndim)


def requantize(acc: Tensor, bias: Tensor, multiplier: Tensor, zero: int, low: int, high: int, dtype: str) -> Tensor:
    """The map of a Requantization, which its `meaning` tells."""

    def of(*i: Index) -> tirx.Expr:
        total = (acc(*i) + per_channel(bias, acc, i)).astype("float32")
        return to_integer(total * per_channel(multiplier, acc, i), zero, low, high, dtype)

    made = compute(acc.shape, dtype, of, [acc, bias, multiplier], "requantize")
    made.meaning = Requantization(acc, bias, multiplier, zero, low, high, dtype)
    return made


def packed_requantization(call: Call, terms: int, limit: int = 2**30) -> Requantization | None:
    """The requantization that is a call's whole tail, where its constants are known and saturating instructions do.

    They convert what lies within int32, hence `limit`: sums of `terms` products of bytes stay below terms * 2^15.
    """
    found = call.final.meaning
    if not isinstance(found, Requantization) or found.acc is not call.outputs[0]:
        return None
    if found.dtype != call.result.dtype:
        return None
    bounds = []
    for t in (found.bias, found.multiplier):
        if t.data is None:
            return None
        bounds.append(float(np.abs(np.asarray(t.data(), np.float64)).max()))
    bias, multiplier = bounds
    return found if (terms * 2**15 + bias) * multiplier < limit else None  # False for NaN, too
