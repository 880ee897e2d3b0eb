"""How elements of types that code does not hold as they are lie in memory."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

LARGEST_HALF = 65504.0


def expression_dtype(dtype: str) -> str:
    """The TIR type of an element: of 8-bit and 4-bit floats and of integers below a byte the bits, alone in a byte.

    TVM's own handling of those widens, packs or fails; compiler/ops/narrow.py converts them.
    """
    return "uint8" if dtype.startswith(("float8", "float4", "int4", "uint4", "int2", "uint2")) else dtype


def storage_dtype(dtype: str) -> str:
    """The type of a buffer's elements: a bool is a byte, a bfloat16 its bits (TVM legalises no bound values)."""
    return {"bool": "uint8", "bfloat16": "uint16"}.get(dtype, expression_dtype(dtype))


def halves_are_read(target: Target) -> bool:
    """Whether an instruction reads vectors of float16 as float32."""
    return target.family == "gpu" or target.triple.startswith("aarch64") or "f16c" in target.features


def as_halves(values: np.ndarray) -> np.ndarray:
    """float32 as float16, to nearest; what is too large (but for infinity) becomes the largest there is."""
    held = np.clip(values, -LARGEST_HALF, LARGEST_HALF)
    return np.where(np.isinf(values), values, held).astype(np.float16)


def from_bits(bits: tirx.Expr) -> tirx.Expr:
    """The bfloat16 with these 16 bits: the upper half of a float32."""
    wide = tirx.shift_left(bits.astype("uint32"), tirx.const(16, "uint32"))
    return tirx.reinterpret("float32", wide).astype("bfloat16")


def to_bits(value: tirx.Expr) -> tirx.Expr:
    """A bfloat16's 16 bits, rounded to nearest even from the float32 it is computed as; a NaN stays one."""
    single = value.astype("float32")
    bits = tirx.reinterpret("uint32", single)
    one, half = tirx.const(1, "uint32"), tirx.const(0x7FFF, "uint32")
    upper = tirx.const(16, "uint32")
    rounded = tirx.shift_right(bits + half + (tirx.shift_right(bits, upper) & one), upper)
    magnitude = bits & tirx.const(0x7FFFFFFF, "uint32")
    nan = magnitude > tirx.const(0x7F800000, "uint32")
    return tirx.Select(nan, tirx.const(0x7FC0, "uint32"), rounded).astype("uint16")
