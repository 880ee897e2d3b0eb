"""Arrays as .npy bytes, and the file names tensors get. Format: NEP 1, version 1.0."""

from __future__ import annotations

import io
from math import prod
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from edgert import dtypes
from edgert.errors import EdgertError

# All that numpy's parser of headers, which are Python literals, is known to raise on damaged ones.
_NPY_FAULTS = (ValueError, TypeError, OverflowError, EOFError, SyntaxError, RecursionError, MemoryError, TokenError)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def file_stem(name: str) -> str:
    """A tensor's name as a file name: bytes outside [A-Za-z0-9._-] become %XX, so `a/b:0` is `a%2Fb%3A0`."""
    return "".join(chr(b) if chr(b) in _PLAIN else f"%{b:02X}" for b in name.encode())


def storable(array: np.ndarray) -> np.ndarray:
    """`array`, or a view of its raw bits when numpy does not know its type (bfloat16, float8, int4)."""
    if array.dtype.isbuiltin == 2:  # numpy's word for types that another package registered
        for name in dtypes.NAMES:
            if dtypes.accepts(name, array.dtype):
                return array.view(dtypes.bits_dtype(name))
        raise EdgertError(f"an array of {array.dtype} cannot be written as .npy")
    return array


def restored(array: np.ndarray, dtype: str) -> np.ndarray:
    """The opposite of `storable`: raw bits as the array type of `dtype`, other arrays as they are."""
    wanted = dtypes.array_dtype(dtype)
    return array if array.dtype == wanted or array.dtype != dtypes.bits_dtype(dtype) else array.view(wanted)


def to_bytes(array: np.ndarray) -> bytes:
    """`array` in .npy form."""
    buffer = io.BytesIO()
    npy_format.write_array(buffer, storable(np.asarray(array)), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read(file: BinaryIO, size: int, what: str) -> np.ndarray:
    """Read one array from `file`, which holds `size` bytes. No pickles; the data must fill the file exactly, which is
    checked before the array is allocated. Raises EdgertError that names `what`."""
    try:
        version = npy_format.read_magic(file)
        read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}.get(version)
        if read_header is None:
            raise ValueError(f"version {version[0]}.{version[1]} of the format is not known")
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or dtype.fields is not None:
            raise ValueError(f"it holds {dtype}, not numbers")
        need = prod(shape) * dtype.itemsize
        if need != size - file.tell():
            raise ValueError(f"its header promises {need} bytes of data, the file has {size - file.tell()}")
        data = bytearray(need)
        view = memoryview(data)
        done = 0
        while done < need:
            count = file.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise ValueError("it ends too early")
            done += count
        array: np.ndarray = np.frombuffer(data, dtype)
    except _NPY_FAULTS as error:
        text = str(error).splitlines()
        raise EdgertError(f"{what}: not a usable .npy file: {text[0] if text else type(error).__name__}") from None
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def from_bytes(data: bytes | memoryview, what: str) -> np.ndarray:
    """The array in .npy bytes; see `read`."""
    return read(io.BytesIO(data), len(data), what)
