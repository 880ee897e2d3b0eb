"""Element types: their names in the compiler and in manifests, and what numpy holds them in."""

from __future__ import annotations

import numpy as np

_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_NUMPY = (*_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")

# Types that numpy lacks and the package ml_dtypes has, under the same names: the bits of one element, a whole number of
# bytes even where the type has fewer.
RAW = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
    "float4_e2m1fn": "uint8",
    "int4": "int8",
    "uint4": "uint8",
    "int2": "int8",
    "uint2": "uint8",
}

NAMES = frozenset(_NUMPY) | frozenset(RAW)


def bits_dtype(name: str) -> np.dtype:
    """The numpy type with the same bits as `name` (raw bits where numpy has no such type)."""
    return np.dtype(RAW.get(name, name))


def item_size(name: str) -> int:
    """Bytes of one element in memory."""
    return bits_dtype(name).itemsize
