"""Element types by the names manifests use (ONNX's, in lower case) and what numpy holds them in."""

import importlib
from functools import cache

import numpy as np
from numpy.typing import DTypeLike

_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_NUMPY = (*_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")

# Types numpy lacks: raw bits, and the class of the optional package ml_dtypes. A 4-bit value takes a whole byte.
_RAW: dict[str, tuple[str, str]] = {
    "bfloat16": ("uint16", "bfloat16"),
    "float8e4m3fn": ("uint8", "float8_e4m3fn"),
    "float8e4m3fnuz": ("uint8", "float8_e4m3fnuz"),
    "float8e5m2": ("uint8", "float8_e5m2"),
    "float8e5m2fnuz": ("uint8", "float8_e5m2fnuz"),
    "float8e8m0": ("uint8", "float8_e8m0fnu"),
    "int4": ("int8", "int4"),
    "uint4": ("uint8", "uint4"),
}

NAMES = frozenset(_NUMPY) | frozenset(_RAW)


def bits_dtype(name: str) -> np.dtype:
    """The numpy type with the same bits as `name` (raw unsigned bits where numpy has no such type)."""
    return np.dtype(_RAW[name][0] if name in _RAW else name)


def item_size(name: str) -> int:
    """Bytes of one element."""
    return bits_dtype(name).itemsize


@cache
def array_dtype(name: str) -> np.dtype:
    """The type of arrays given to the user: ml_dtypes' own when that package is there, else raw bits."""
    if name in _RAW:
        try:
            return np.dtype(getattr(importlib.import_module("ml_dtypes"), _RAW[name][1]))
        except (ImportError, AttributeError):
            pass
    return bits_dtype(name)


def accepts(name: str, dtype: DTypeLike) -> bool:
    """Whether an array of `dtype` holds elements of `name`: that type itself, or its raw bits."""
    given = np.dtype(dtype).newbyteorder("=")
    if name in _RAW:
        bits, own = _RAW[name]
        return given == np.dtype(bits) or (given.name == own and given.itemsize == np.dtype(bits).itemsize)
    return given == np.dtype(name)
