"""Old rows as targets/kernels/cached_attention_grouped.py stores them, in numpy: keys by channel in groups of rows,
values by row (KIVI, Liu et al. 2024, arXiv:2402.02750)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

TINY = np.float32(1e-30)  # stands for a scale of zero where one divides by it


@dataclass(frozen=True)
class Groups:
    """The numbers of such a format, as the manifest's entry `decoder` has them in `folds`."""

    bits: int
    kept: float
    """Of a group's range, that a scale spans."""
    sinks: int
    """First rows, which stay float16."""
    window: int
    """Rows in float16, these among them."""
    group: int
    """Rows that are folded together."""
    most: int
    """New rows of one run."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Groups | None:
        """Of an artifact's program, None where it stores no row anew. `facts`: the manifest's entry `decoder`."""
        given = facts.get("folds")
        return None if given is None else cls(**{name: given[name] for name in cls.__dataclass_fields__})

    def encode_keys(self, keys: np.ndarray, kept: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """float32 [..., rows, size], whole groups -> codes uint8 [..., rows, size * bits / 8] and factors float16
        [..., rows, 2 * size / group], both in the order of memory. `kept`: another than the format's."""
        *lead, rows, size = keys.shape
        scale, least, codes = self._coded(keys.reshape(*lead, rows // self.group, self.group, size), -2, kept)
        factors = np.concatenate([scale, least], -1).astype(np.float16)
        return self._packed(codes.reshape(keys.shape)), factors.reshape(*lead, rows, 2 * size // self.group)

    def encode_values(self, values: np.ndarray, kept: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As encode_keys, with factors float16 [..., rows, 2 * size / span]."""
        *lead, size = values.shape
        span = 64 if size % 64 == 0 else 32
        scale, least, codes = self._coded(values.reshape(*lead, size // span, span), -1, kept)
        factors = np.concatenate([scale, least], -1).astype(np.float16)
        return self._packed(codes.reshape(values.shape)), factors.reshape(*lead, 2 * size // span)

    def decode_keys(self, codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """float32 [..., rows, size] of what encode_keys gave."""
        *lead, rows, _ = codes.shape
        found = self._unpacked(codes)
        size = found.shape[-1]
        parts = factors.reshape(*lead, rows // self.group, 2, 1, size).astype(np.float32)
        each = found.reshape(*lead, rows // self.group, self.group, size)
        return (parts[..., 1, :, :] + each * parts[..., 0, :, :]).reshape(*lead, rows, size)

    def decode_values(self, codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """float32 [..., rows, size] of what encode_values gave."""
        found = self._unpacked(codes)
        spans = factors.shape[-1] // 2
        pairs = factors.reshape(*factors.shape[:-1], spans, 2).astype(np.float32)
        each = found.reshape(*pairs.shape[:-1], found.shape[-1] // spans)
        return (pairs[..., 1:] + each * pairs[..., :1]).reshape(found.shape)

    def _coded(self, x: np.ndarray, axis: int, kept: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scale and least value along the axis as float16 has them, and codes, in the kernels' order of operations."""
        share, top = self.kept if kept is None else kept, 2**self.bits - 1
        low = x.min(axis, keepdims=True)
        length = x.max(axis, keepdims=True) - low
        least = (low + length * np.float32((1 - share) / 2)).astype(np.float16).astype(np.float32)
        scale = (length * np.float32(share / top)).astype(np.float16).astype(np.float32)
        codes = np.rint(np.clip((x - least) * (np.float32(1) / np.maximum(scale, TINY)), 0, top))
        return scale, least, codes.astype(np.uint8)

    def _packed(self, codes: np.ndarray) -> np.ndarray:
        *lead, rows, size = codes.shape
        per = 8 // self.bits
        runs = codes.reshape(*lead, rows // per, per, size)
        shifts = (np.arange(per, dtype=np.uint8) * self.bits)[:, None]
        return np.bitwise_or.reduce(runs << shifts, -2).reshape(*lead, rows, size // per)

    def _unpacked(self, packed: np.ndarray) -> np.ndarray:
        """The codes as float32 [..., rows, size]."""
        *lead, rows, width = packed.shape
        per = 8 // self.bits
        runs = packed.reshape(*lead, rows // per, 1, width * per)
        shifts = (np.arange(per, dtype=np.uint8) * self.bits)[:, None]
        codes = runs >> shifts & np.uint8(2**self.bits - 1)
        return codes.reshape(*lead, rows, width * per).astype(np.float32)
