"""Checks a model's stored tensors before anything is allocated for them, and finds where external ones lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from targets.errors import EdgertError, UnsupportedModel

from .mapped import MappedFile, mapped_tensor

MOST_BYTES = 1 << 40  # no tensor of a real model comes near; sizes above overflow sooner or later
Files = dict[Path, MappedFile]
TYPED_FIELD = {
    ir.DataType.FLOAT: "float_data", ir.DataType.COMPLEX64: "float_data", ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data", ir.DataType.INT64: "int64_data", ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
}  # fmt: skip


def element_count(dims: Sequence[int], what: str) -> int:
    """The number of elements. Raises EdgertError for negative or absurd dimensions."""
    count = 1
    for dim in dims:
        if dim < 0:
            raise EdgertError(f"{what}: dimension {dim} is negative; the model is damaged or was exported wrongly")
        count *= dim
    if count > MOST_BYTES:
        raise EdgertError(f"{what}: shape {'x'.join(map(str, dims))} is absurd; the model is damaged or wrong")
    return count


def byte_count(proto: onnx.TensorProto, what: str) -> int:
    """The bytes the tensor's data takes. Raises EdgertError for absurd dimensions and unknown element types."""
    count = element_count(proto.dims, what)
    try:
        bits = ir.DataType(proto.data_type).bitwidth
    except (ValueError, TypeError) as error:
        if proto.data_type == onnx.TensorProto.STRING:
            return 0
        raise EdgertError(f"{what}: unknown element type {proto.data_type}") from error
    return (count * bits + 7) // 8


def check_inline(proto: onnx.TensorProto, what: str, elsewhere: int | None) -> None:
    """Raises EdgertError unless the data a tensor holds has the size of its shape. elsewhere: bytes mapped instead."""
    need = byte_count(proto, what)
    if proto.data_type == onnx.TensorProto.STRING:
        if len(proto.string_data) != element_count(proto.dims, what):
            raise EdgertError(f"{what}: {len(proto.string_data)} strings for its shape; the model is damaged")
        return
    if elsewhere is not None or proto.HasField("raw_data"):
        have = len(proto.raw_data) if elsewhere is None else elsewhere
    else:
        have = need if _typed_count(proto) == _typed_need(proto) else -1
    if have != need:
        held = f"{have} bytes" if have >= 0 else f"{_typed_count(proto)} numbers"
        raise EdgertError(f"{what}: holds {held}, shape {list(proto.dims)} needs {need} bytes; the model is damaged")


def _typed_count(proto: onnx.TensorProto) -> int:
    """How many numbers lie in the typed field that belongs to the element type (onnx.proto); others do not count."""
    return len(getattr(proto, TYPED_FIELD.get(ir.DataType(proto.data_type), "int32_data")))


def _typed_need(proto: onnx.TensorProto) -> int:
    """How many numbers the typed field must hold: two or four a number for sub-byte types, two for complex ones."""
    count, dtype = element_count(proto.dims, proto.name), ir.DataType(proto.data_type)
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    if dtype.bitwidth in (2, 4):
        return -(-count * dtype.bitwidth // 8)
    return count


def external_tensor(proto: onnx.TensorProto, folder: Path, files: Files) -> ir.LazyTensor:
    """The tensor in a file beside the model. Raises EdgertError when that leaves the folder or the data is missing."""
    what = f"tensor {proto.name}"
    need = byte_count(proto, what)
    if proto.data_type == onnx.TensorProto.STRING:
        raise UnsupportedModel(f"{what}: strings in external data are not supported")
    info = {entry.key: entry.value for entry in proto.external_data}
    path = inside(folder, info.get("location", ""), what)
    if path not in files:
        files[path] = MappedFile(path)
    size = files[path].size
    offset, length = _number(info, "offset", 0, what), _number(info, "length", need, what)
    if length != need:
        raise EdgertError(f"{what}: external length {length} but its shape {list(proto.dims)} needs {need} bytes")
    if offset + length > size:
        wish = f"bytes {offset}..{offset + length}"
        raise EdgertError(f"{what}: needs {wish} of {path.name}, which has {size}; is it cut?")
    return mapped_tensor(files[path], offset, length, ir.DataType(proto.data_type), proto.dims, proto.name)


def inside(folder: Path, location: str, what: str) -> Path:
    """`location` as a file in `folder`. Raises EdgertError when `..`, a link or an absolute path leads elsewhere."""
    if not location:
        raise EdgertError(f"{what}: external data without a location")
    if "\0" in location:
        raise EdgertError(f"{what}: the external data's location is no file name")
    path = folder / location
    home = folder.resolve()
    if Path(location).is_absolute() or not path.resolve().is_relative_to(home):
        raise EdgertError(f"{what}: external data {location!r} leaves the model's folder, which is refused")
    if not path.is_file():
        raise EdgertError(f"{what}: external data file {location!r} is missing; put it beside the model")
    return path.resolve()


def _number(info: dict[str, str], key: str, default: int, what: str) -> int:
    text = info.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise EdgertError(f"{what}: external data's {key} {text!r} is no number of bytes")
    return int(text)
