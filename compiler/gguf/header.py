"""A strict reader of a GGUF file's header: every length is checked against the file before anything is made from it.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from targets.errors import EdgertError, UnsupportedModel

MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 16
MOST_STRINGS = 1 << 22  # in all arrays together; the largest vocabularies with their merges have a million
MOST_NAME = 1 << 10  # bytes of a key's or tensor's name: ggml allows 64 for tensors
MOST_DIMENSIONS = 4  # ggml's own
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor table, not yet checked against the file."""

    name: str
    dims: tuple[int, ...]
    """As stored: the fastest first."""
    type: int
    offset: int
    """From the start of the data."""


@dataclass(frozen=True)
class Header:
    """What stands before the weights."""

    version: int
    metadata: Mapping[str, Any]
    """bool, int, float, str; arrays as numpy arrays, of strings as lists."""
    tensors: tuple[TensorInfo, ...]
    end: int
    """Byte after the tensor table; the data starts at the next multiple of the alignment."""


def read_header(data: np.ndarray) -> Header:
    """Parse the header of a file's bytes (uint8 [n], may be mapped).

    Raises EdgertError for a damaged file and UnsupportedModel for a version or encoding that is not read; the messages
    do not name the file.
    """
    cursor = _Cursor(data)
    magic = bytes(data[:4])
    if magic != b"GGUF":
        raise EdgertError(f"is not a GGUF file: starts with {magic!r}")
    cursor.at = 4
    version = cursor.u32("the version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
        raise UnsupportedModel("is big-endian GGUF" if swapped else f"is GGUF version {version}; 2 and 3 are read")
    tensors = cursor.count("tensors", MOST_TENSORS, least=24)
    keys = cursor.count("metadata keys", MOST_KEYS, least=13)
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.name("a metadata key")
        if key in metadata:
            raise EdgertError(f"metadata key {key!r} stands twice")
        metadata[key] = cursor.value(cursor.u32(key), key)
    infos = tuple(_tensor(cursor) for _ in range(tensors))
    return Header(version, metadata, infos, cursor.at)


def _tensor(cursor: "_Cursor") -> TensorInfo:
    name = cursor.name("a tensor's name")
    rank = cursor.u32(f"tensor {name!r}")
    if not 1 <= rank <= MOST_DIMENSIONS:
        raise EdgertError(f"tensor {name!r} has {rank} dimensions; 1 to {MOST_DIMENSIONS} are possible")
    dims = tuple(cursor.u64(f"tensor {name!r}") for _ in range(rank))
    return TensorInfo(name, dims, cursor.u32(f"tensor {name!r}"), cursor.u64(f"tensor {name!r}"))


class _Cursor:
    """A place in the bytes; reading past their end is an error that names what was being read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.at, self.size = data.data, 0, data.size
        self.strings = 0

    def take(self, count: int, what: str) -> int:
        """Step over `count` bytes; returns where they start."""
        start = self.at
        if count > self.size - start:
            raise EdgertError(f"is cut or damaged: {what} needs {count} bytes at {start}, the file has {self.size}")
        self.at = start + count
        return start

    def u32(self, what: str) -> int:
        return int(_U32.unpack_from(self.data, self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack_from(self.data, self.take(8, what))[0])

    def count(self, what: str, most: int, least: int) -> int:
        """A number of things that take at least `least` bytes each."""
        number = self.u64(f"the number of {what}")
        if number > most or number * least > self.size:
            raise EdgertError(f"is damaged: claims {number} {what} in {self.size} bytes")
        return number

    def text(self, what: str, most: int | None = None) -> bytes:
        length = self.u64(what)
        if most is not None and length > most:
            raise EdgertError(f"is damaged: {what} has {length} bytes, at most {most} are possible")
        start = self.take(length, what)
        return bytes(self.data[start : self.at])

    def name(self, what: str) -> str:
        try:
            return self.text(what, MOST_NAME).decode()
        except UnicodeDecodeError:
            raise EdgertError(f"is damaged: {what} is not UTF-8") from None

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(key).decode(errors="replace")
        if kind == _ARRAY:
            return self.array(key)
        array = self.numbers(kind, 1, key)
        return array[0].item()

    def numbers(self, kind: int, count: int, key: str) -> np.ndarray:
        if kind not in _SCALARS:
            raise EdgertError(f"is damaged: metadata key {key!r} has the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        start = self.take(count * dtype.itemsize, key)
        raw = np.frombuffer(self.data[start : self.at], np.uint8)
        return raw.astype(bool) if kind == 7 else raw.view(dtype)  # a byte that is neither 0 nor 1 is no valid bool

    def array(self, key: str) -> Any:
        kind, count = self.u32(key), self.u64(key)
        if kind == _ARRAY:
            raise UnsupportedModel(f"metadata key {key!r} is an array of arrays, which is not read")
        if kind != _STRING:
            return self.numbers(kind, count, key)
        self.strings += count
        if self.strings > MOST_STRINGS or count * 8 > self.size - self.at:
            raise EdgertError(f"is damaged: metadata key {key!r} claims {count} strings in {self.size} bytes")
        unpack, data, size, at = _U64.unpack_from, self.data, self.size, self.at
        texts = []
        for _ in range(count):  # the tight loop of a vocabulary; the checks are `text`'s
            if size - at < 8:
                self.at = at
                self.take(8, key)
            length = unpack(data, at)[0]
            at += 8
            if length > size - at:
                self.at = at
                self.take(length, key)
            texts.append(str(data[at : at + length], "utf-8", "replace"))
            at += length
        self.at = at
        return texts
