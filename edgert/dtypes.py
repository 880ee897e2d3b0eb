"""Element types as arrays have them: numpy's own, ml_dtypes' where that package is there, else raw bits."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from targets.dtypes import NAMES, RAW, bits_dtype, item_size

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["NAMES", "accepts", "array_dtype", "bits_dtype", "item_size"]


@cache
def array_dtype(name: str) -> np.dtype:
    """The type of arrays given to the user: ml_dtypes' own when that package is there, else raw bits."""
    if name in RAW:
        try:
            return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
        except (ImportError, AttributeError):
            pass
    return bits_dtype(name)


def accepts(name: str, dtype: DTypeLike) -> bool:
    """Whether an array of `dtype` holds elements of `name`: that type itself, or its raw bits."""
    given = np.dtype(dtype).newbyteorder("=")
    if name in RAW:
        bits = bits_dtype(name)
        return given == bits or (given.name == name and given.itemsize == bits.itemsize)
    return given == np.dtype(name)
