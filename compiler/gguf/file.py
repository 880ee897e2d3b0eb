"""Opens a GGUF file: mapped, its tensor table checked, nothing decoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from compiler.gguf.header import Header, TensorInfo, read_header
from compiler.gguf.tensor import Tensor
from compiler.gguf.types import TYPES, type_name
from targets.errors import EdgertError, UnsupportedModel

_MOST_ALIGNMENT = 1 << 20
_MOST_TEXT = 4000  # characters of a message: a damaged file may have thousands of faults


@dataclass(frozen=True)
class GgufFile:
    """An open file. The mapping lives as long as one of its tensors."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    """bool, int, float, str; arrays as numpy arrays, of strings as lists."""
    tensors: Mapping[str, Tensor]
    """By the names in the file, in its order."""


def read_gguf(path: str | Path) -> GgufFile:
    """Open a GGUF file of version 2 or 3.

    Raises EdgertError for one that is missing, cut or damaged and UnsupportedModel for tensor types or versions that
    are not read; the message names the file and the thing in it.
    """
    path = Path(path)
    try:
        data = _map(path)
        header = read_header(data)
        return GgufFile(path, header.version, header.metadata, _tensors(header, data))
    except EdgertError as error:
        raise type(error)(f"{path.name}: {one_line(str(error))}") from None
    except OSError as error:
        raise EdgertError(f"{path}: {error.strerror or error}") from None


def one_line(text: str) -> str:
    """A message fit to be shown: names in a file may hold anything, line ends and control sequences too."""
    shown = text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + " ..."
    return "".join(c if c.isprintable() else "?" for c in shown)


def _map(path: Path) -> np.ndarray:
    if not path.exists():
        raise EdgertError("no such file")
    if not path.is_file():
        raise EdgertError("is not a file; give the .gguf file itself")
    if path.stat().st_size == 0:
        raise EdgertError("is empty; download it again")
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def _tensors(header: Header, data: np.ndarray) -> dict[str, Tensor]:
    alignment = header.metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= _MOST_ALIGNMENT or alignment & (alignment - 1):
        raise EdgertError(f"is damaged: general.alignment is {alignment!r}, expected a power of 2")
    unread = sorted({type_name(info.type) for info in header.tensors if info.type not in TYPES})
    if unread:
        known = ", ".join(sorted(t.name for t in TYPES.values()))
        raise UnsupportedModel(f"has tensors of types that are not read: {', '.join(unread)} (read are {known})")
    start = -(-header.end // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for info in header.tensors:
        if info.name in tensors:
            raise EdgertError(f"tensor {info.name!r} stands twice")
        tensors[info.name] = _tensor(info, data, start, alignment)
    _no_overlap(header.tensors, tensors)
    return tensors


def _tensor(info: TensorInfo, data: np.ndarray, start: int, alignment: int) -> Tensor:
    type_, shape = TYPES[info.type], info.dims[::-1]
    if 0 in shape:
        raise EdgertError(f"tensor {info.name!r} has the empty shape {list(shape)}")
    if shape[-1] % type_.weights:
        raise EdgertError(f"tensor {info.name!r} has rows of {shape[-1]}, not whole blocks of {type_.name}")
    rows, row = 1, shape[-1] // type_.weights * type_.nbytes
    for size in shape[:-1]:
        rows *= size  # Python's integers: 2^60 squared is just a number that is too large
    if info.offset % alignment:
        raise EdgertError(f"tensor {info.name!r} starts at {info.offset}, not a multiple of {alignment}")
    first = start + info.offset
    if first + rows * row > data.size:
        raise EdgertError(
            f"is cut or damaged: tensor {info.name!r} {list(shape)} {type_.name} needs the bytes "
            f"{first} to {first + rows * row}, the file has {data.size}"
        )
    return Tensor(info.name, shape, type_, data[first : first + rows * row].reshape(rows, row))


def _no_overlap(infos: tuple[TensorInfo, ...], tensors: Mapping[str, Tensor]) -> None:
    ordered = sorted(infos, key=lambda info: info.offset)
    for one, next_ in pairwise(ordered):
        if one.offset + tensors[one.name].nbytes > next_.offset:
            raise EdgertError(f"is damaged: tensors {one.name!r} and {next_.name!r} overlap")
