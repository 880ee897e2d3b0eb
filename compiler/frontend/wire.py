"""Takes the weights out of an ONNX file while it is parsed, so that they are mapped instead of copied.

An ONNX file is a ModelProto in protobuf's wire format: a sequence of (field number, wire type, value). This module
walks ModelProto.graph.initializer, notes where in the file each initializer's raw_data lies, and gives protobuf the
rest: a few hundred kilobytes, however large the model. (https://protobuf.dev/programming-guides/encoding)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from targets.errors import EdgertError

GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9  # field numbers in ModelProto, GraphProto, TensorProto
SMALL = 4096  # bytes: smaller tensors are left where they are
Buffer = memoryview


@dataclass
class Skeleton:
    """A model without its large raw_data; `raw` says where that lies: initializer -> (offset, length) in the file."""

    pieces: list[bytes] = field(default_factory=list)
    raw: dict[str, tuple[int, int]] = field(default_factory=dict)

    def proto_bytes(self) -> bytes:
        """The model to parse."""
        return b"".join(self.pieces)


class Damaged(EdgertError):
    """The bytes are no protobuf message."""


def strip(data: Buffer) -> Skeleton:
    """The skeleton of a whole ONNX file. Raises Damaged where the bytes are cut or no protobuf message."""
    skeleton = Skeleton()
    for number, start, body, end in _fields(data, 0, len(data)):
        if number != GRAPH or body is None:
            skeleton.pieces.append(bytes(data[start:end]))
            continue
        graph = _strip_graph(data, body, end, skeleton.raw)
        skeleton.pieces += [_varint(GRAPH << 3 | 2), _varint(sum(map(len, graph))), *graph]
    return skeleton


def _strip_graph(data: Buffer, start: int, end: int, raw: dict[str, tuple[int, int]]) -> list[bytes]:
    pieces = []
    for number, first, body, last in _fields(data, start, end):
        if number != INITIALIZER or body is None or last - body < SMALL:
            pieces.append(bytes(data[first:last]))
            continue
        tensor = _strip_tensor(data, body, last, raw)
        pieces += [_varint(INITIALIZER << 3 | 2), _varint(sum(map(len, tensor))), *tensor]
    return pieces


def _strip_tensor(data: Buffer, start: int, end: int, raw: dict[str, tuple[int, int]]) -> list[bytes]:
    pieces, name, place = [], "", None
    for number, first, body, last in _fields(data, start, end):
        if number == RAW_DATA and body is not None:
            place = (body, last - body)
            continue
        if number == NAME and body is not None:
            name = bytes(data[body:last]).decode("utf-8", "replace")
        pieces.append(bytes(data[first:last]))
    if place is not None and name and name not in raw:
        raw[name] = place
        return pieces
    return [bytes(data[start:end])]  # without a name nobody could find the data again; two of a name: refused later


def _fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int | None, int]]:
    """Each field in [start, end): (number, its first byte, first byte of its value if it has a length, its end)."""
    at = start
    while at < end:
        tag, value = _read_varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        body: int | None = None
        if kind == 0:
            _, last = _read_varint(data, value, end)
        elif kind == 1:
            last = value + 8
        elif kind == 5:
            last = value + 4
        elif kind == 2:
            length, body = _read_varint(data, value, end)
            last = body + length
        else:
            raise Damaged(f"byte {at} is not the start of a protobuf field")
        if last > end or number == 0:
            raise Damaged(f"the field at byte {at} would end at {last}, the data ends at {end}")
        yield number, at, body, last
        at = last


def _read_varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise Damaged(f"the number at byte {at} is cut")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
