"""Writes a model's weights piece by piece into one file beside the ONNX graph (ONNX's external data)."""

from typing import BinaryIO

import numpy as np
from onnx import TensorProto, numpy_helper

from compiler.gguf import Tensor

_ALIGNMENT = 64
_PIECE = 1 << 22  # weights in memory at a time


class WeightFile:
    """An open file of weights, and the initializers that point into it."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self.file, self.location = file, location
        self.initializers: list[TensorProto] = []

    def inline(self, name: str, values: np.ndarray) -> str:
        """A small array in the graph itself, where shape inference sees it; returns the name."""
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def array(self, name: str, values: np.ndarray) -> str:
        """A float32 array; returns the name."""
        self._open(name, TensorProto.FLOAT, values.shape)
        self._append(np.ascontiguousarray(values))
        return name

    def codes(self, name: str, values: np.ndarray, bits: int) -> str:
        """uint8 codes as uint4, two a byte, where `bits` is 4, else as uint8."""
        self._open(name, TensorProto.UINT4 if bits == 4 else TensorProto.UINT8, values.shape)
        self._append(_packed(values) if bits == 4 else values)
        return name

    def floats(self, name: str, tensor: Tensor) -> str:
        """A weight decoded to float32."""
        self._open(name, TensorProto.FLOAT, tensor.shape)
        if len(tensor.shape) < 2:
            self._append(tensor.numpy())
        else:
            for rows in _pieces(tensor):
                self._append(tensor.numpy(rows))
        return name

    def blocks(self, name: str, tensor: Tensor) -> "BlockNames":
        """A quantized matrix [N, K] as codes, float32 scales [N, K / size], and minima or zero points."""
        pieces = _pieces(tensor)
        first = tensor.blocks(slice(0, 1))
        assert first is not None
        scales, minima = [], []
        self._open(f"{name}.codes", TensorProto.UINT4 if first.bits == 4 else TensorProto.UINT8, tensor.shape)
        for rows in pieces:
            part = tensor.blocks(rows)
            assert part is not None
            self._append(_packed(part.codes) if part.bits == 4 else part.codes)
            scales.append(part.scale)
            if part.minimum is not None:
                minima.append(part.minimum)
        scale = np.concatenate(scales)
        self.array(f"{name}.scale", scale)
        if minima:
            self.array(f"{name}.minimum", np.concatenate(minima)[:, :, None])
            return BlockNames(name, first.size, first.bits, has_minimum=True)
        self.codes(f"{name}.zero", np.full(scale.shape, first.zero, np.uint8), first.bits)
        return BlockNames(name, first.size, first.bits, has_minimum=False)

    def _open(self, name: str, dtype: int, dims: tuple[int, ...]) -> None:
        self.file.write(b"\0" * (-self.file.tell() % _ALIGNMENT))
        proto = TensorProto(name=name, data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.location), ("offset", str(self.file.tell())), ("length", "0")):
            proto.external_data.add(key=key, value=value)
        self.initializers.append(proto)

    def _append(self, values: np.ndarray) -> None:
        self.file.write(values.data)
        length = self.initializers[-1].external_data[2]
        length.value = str(int(length.value) + values.nbytes)


class BlockNames:
    """The initializers of a blocked matrix."""

    def __init__(self, name: str, size: int, bits: int, has_minimum: bool) -> None:
        self.size, self.bits = size, bits
        self.codes, self.scale = f"{name}.codes", f"{name}.scale"
        self.minimum = f"{name}.minimum" if has_minimum else None
        self.zero = None if has_minimum else f"{name}.zero"


def _pieces(tensor: Tensor) -> list[slice]:
    """Slices of rows, each of a bounded number of weights."""
    rows, width = tensor.shape
    step = max(1, _PIECE // width)
    return [slice(low, low + step) for low in range(0, rows, step)]


def _packed(codes: np.ndarray) -> np.ndarray:
    """Codes of 4 bits, two a byte, the first in the low half (ONNX's order); an odd one at the end stands alone."""
    flat = codes.ravel()
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[0::2] | (flat[1::2] << np.uint8(4))
