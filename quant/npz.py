"""The arrays of an .npz file row by row: `numpy.load` would hold a whole array in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from targets.errors import UsageError

_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error)


class Rows:
    """One array of an .npz file, its rows (along the first axis) read one at a time, as often as it is walked."""

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            self.shape, self.dtype = _header(file, f"{path}: {member}")
        self.rank = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        shape = self.shape[1:]
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            _header(file, self.member)
            for i in range(len(self)):
                try:
                    data = file.read(size)
                except _DAMAGE as error:
                    raise UsageError(f"{self.path}: {self.member} is damaged at row {i} ({error})") from None
                if len(data) != size:
                    raise UsageError(f"{self.path}: {self.member} ends early, at row {i} of {len(self)}")
                yield np.frombuffer(data, self.dtype).reshape(shape)


def members(path: Path) -> dict[str, str]:
    """The names of the arrays in the file, each with its archive member. Raises UsageError if it is no .npz file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not an .npz file ({error})") from None


def rows(path: Path, member: str) -> Rows:
    """That array. Raises UsageError where it has no rows, holds Python objects or is laid out by columns."""
    return Rows(path, member)


def _header(file, where: str) -> tuple[tuple[int, ...], np.dtype]:  # type: ignore[no-untyped-def]
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = reader(file)
    except (ValueError, *_DAMAGE) as error:
        raise UsageError(f"{where}: not a whole array ({error})") from None
    if dtype.hasobject:
        raise UsageError(f"{where}: holds Python objects; save plain numbers")
    if not shape:
        raise UsageError(f"{where}: is a single number; samples lie along the first axis")
    if by_columns and len(shape) > 1:
        raise UsageError(f"{where}: is laid out by columns; save np.ascontiguousarray(it)")
    return shape, dtype
