"""One weight of a GGUF file: a view of the mapped bytes, decoded on demand and in parts."""

from dataclasses import dataclass

import numpy as np

from compiler.gguf.blocks import Blocks
from compiler.gguf.types import GgmlType

_PIECE = 1 << 22  # weights decoded at a time, so that the decoder's own copies stay small
_ALL = slice(None)


@dataclass(frozen=True)
class Tensor:
    """A weight where it lies in the file."""

    name: str
    shape: tuple[int, ...]
    """numpy's order: [out, in] for a matrix."""
    type: GgmlType
    raw: np.ndarray
    """uint8 [rows, bytes of a row], mapped; rows are all dimensions but the last."""

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return int(self.raw.size)

    @property
    def quantized(self) -> bool:
        """Whether `blocks` gives something."""
        return self.type.blocks is not None

    def take(self, start: int, stop: int) -> "Tensor":
        """Rows [start, stop) of a matrix as a tensor of its own, over the same bytes."""
        if len(self.shape) != 2 or not 0 <= start < stop <= self.shape[0]:
            raise ValueError(f"{self.name}: no rows {start} to {stop} in {list(self.shape)}")
        return Tensor(self.name, (stop - start, self.shape[1]), self.type, self.raw[start:stop])

    def blocks(self, rows: slice = _ALL) -> Blocks | None:
        """The stored bits of the selected rows (a vector is one row), or None for F32, F16 and BF16."""
        if self.type.blocks is None:
            return None
        raw = self.raw[rows]
        return self.type.blocks(raw.reshape(raw.shape[0], -1, self.type.nbytes))

    def numpy(self, rows: slice = _ALL) -> np.ndarray:
        """The weights, float32 of `shape`; of a matrix the selected rows. The values are ggml's own, to the bit."""
        raw = self.raw[rows]
        width = self.shape[-1]
        out = np.empty((raw.shape[0], width), np.float32)
        step = max(1, _PIECE // width)
        for low in range(0, raw.shape[0], step):
            out[low : low + step] = self._decode(raw[low : low + step])
        return out.reshape(-1, *self.shape[1:]) if len(self.shape) > 1 else out[0]

    def _decode(self, raw: np.ndarray) -> np.ndarray:
        if self.type.blocks is not None:
            return self.type.blocks(raw.reshape(raw.shape[0], -1, self.type.nbytes)).numpy()
        raw = np.ascontiguousarray(raw)
        if self.type.name == "BF16":
            return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw.view("<f4" if self.type.name == "F32" else "<f2").astype(np.float32)
