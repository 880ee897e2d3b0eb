"""Read a safetensors file: an 8-byte length, a JSON header, raw little-endian arrays (the format's own README)."""

import json
import math

import numpy as np

from targets.errors import EdgertError

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
_MAX_HEADER = 100_000_000  # the format's own limit, in bytes


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name; read-only views of `data`, so nothing is copied.

    Raises EdgertError where the header is damaged or a tensor lies outside the file, overlaps the header, or has a
    length that is not its shape's.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise EdgertError("safetensors: the header is cut short")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise EdgertError("safetensors: the header is not JSON") from None
    if not isinstance(header, dict):
        raise EdgertError("safetensors: the header is not a table of tensors")
    body = memoryview(data)[8 + length :]
    return {name: _array(name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def _array(name: str, entry: object, body: memoryview) -> np.ndarray:
    try:
        if not isinstance(entry, dict):
            raise TypeError
        dtype, shape, (begin, end) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and begin <= end <= len(body)
    except (KeyError, TypeError, ValueError):
        raise EdgertError(f"safetensors: tensor {name!r} has a damaged or unsupported description") from None
    if not sound or end - begin != math.prod(shape) * dtype.itemsize:
        raise EdgertError(f"safetensors: tensor {name!r} does not lie in the file as its shape says")
    return np.frombuffer(body[begin:end], dtype).reshape(shape)
