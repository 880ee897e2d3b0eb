"""Tensors whose data stays in a file: mapped when read, never held."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir


class MappedFile:
    """One read-only mapping of a whole file, made at first use and shared by all its tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._map: mmap.mmap | None = None

    def bytes(self, offset: int, length: int) -> memoryview:
        """A view of the file's bytes; nothing is copied."""
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[offset : offset + length]


def mapped_tensor(
    file: MappedFile, offset: int, length: int, dtype: ir.DataType, dims: Sequence[int], name: str
) -> ir.LazyTensor:
    """A tensor at (offset, length) of `file`, read anew each time: a view of the file where alignment allows.

    dtype: numpy's or ml_dtypes' when read; types below a byte come unpacked.
    """
    shape = ir.Shape(dims, frozen=True)

    def read() -> ir.TensorProtocol:
        if length == 0:
            return ir.Tensor(np.empty(tuple(dims), dtype.numpy()), dtype, shape=shape, name=name)
        data = file.bytes(offset, length)
        if dtype.bitwidth < 8:
            proto = onnx.TensorProto(data_type=int(dtype), dims=dims, raw_data=bytes(data))
            return ir.Tensor(onnx.numpy_helper.to_array(proto), dtype, shape=shape, name=name)
        array = np.frombuffer(data, dtype.numpy().newbyteorder("<")).reshape(tuple(dims))
        # inline tensors lie where protobuf put them; kernels and vector code want natural alignment
        array = array if array.flags.aligned else array.copy()
        return ir.Tensor(array, dtype, shape=shape, name=name)

    return ir.LazyTensor(read, dtype=dtype, shape=shape, name=name)


def renamed(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """The same data under another name; `tensor` keeps its own."""
    shape = ir.Shape(tensor.shape.numpy(), frozen=True)
    return ir.LazyTensor(lambda: tensor, dtype=tensor.dtype, shape=shape, name=name)
