"""Constant weights of few bits as kernels see them: codes, scales and zero points of blocks, packed in panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from targets.target import Target

from .nibbles import pack_nibbles
from .packing import pack_panels
from .stage import Const
from .storage import halves_are_read
from .tensor import Tensor

NARROW = {"int4": 4, "uint4": 4, "int8": 8, "uint8": 8}


@dataclass(eq=False)
class BlockedWeights:
    """(q - zero) * scale of q [depth, cols] (`swapped`: [cols, depth]), all constant leaves.

    block: neighbours along the depth that share a scale; the last block may be shorter.
    """

    q: Tensor
    scale: Tensor | None
    zero: Tensor | None
    swapped: bool
    block: int  # 0: one scale for each column, or one for all

    @classmethod
    def of(cls, attrs: dict[str, Any], *leaves: Tensor | None) -> BlockedWeights | None:
        """The weights of a call's leaves (q, scale, zero); None where one is not constant, or its type no kernel's."""
        q, scale, zero = (*leaves, None, None, None)[:3]
        if q is None or q.dtype not in NARROW or any(t is not None and t.data is None for t in (q, scale, zero)):
            return None
        made = cls(q, scale, zero, bool(attrs.get("transB", 0)), int(attrs.get("block", 0)))
        return None if 0 in (made.depth, made.cols) else made

    @property
    def depth(self) -> int:
        """Length of the sums."""
        return int(self.q.shape[1 if self.swapped else 0])

    @property
    def cols(self) -> int:
        """Columns of the product."""
        return int(self.q.shape[0 if self.swapped else 1])

    @property
    def step(self) -> int:
        """Neighbours along the depth with the same scale."""
        return self.block or self.depth

    @property
    def blocks(self) -> int:
        """Scales of one column."""
        return -(-self.depth // self.step)

    @property
    def bits(self) -> int:
        """Of one code."""
        return NARROW[self.q.dtype]

    @cached_property
    def middle(self) -> int | None:
        """The zero point of all blocks, where it is that of signed codes, seen as unsigned; None where it is not."""
        half = 1 << (self.bits - 1)
        if self.zero is None:
            return 0 if self.q.dtype.startswith("u") else half
        values = np.unique(_numbers(self.zero))
        here = 0 if self.q.dtype.startswith("u") else half
        return int(values[0]) + here if len(values) == 1 and int(values[0]) + here in (0, half) else None

    @property
    def signed(self) -> bool:
        """Whether the codes are read as signed numbers whose zero point is 0."""
        return self.middle == 1 << (self.bits - 1)

    @property
    def centred(self) -> bool:
        """Whether the codes need no zero point, read so."""
        return self.middle is not None

    def matrix(self, t: Tensor) -> np.ndarray:
        """A leaf's numbers as [depth, cols], or one for each block and column as [blocks, cols]."""
        values = _numbers(t)
        if values.ndim == 2:
            return values.T if self.swapped else values
        return np.broadcast_to(values.reshape(1, -1), (1, self.cols))

    def unsigned(self, t: Tensor) -> np.ndarray:
        """Codes or zero points [depth or blocks, cols] as uint8 from 0 on."""
        half = 0 if t.dtype.startswith("u") else 1 << (self.bits - 1)
        return (self.matrix(t).astype(np.int16) + half).astype(np.uint8)

    def codes(self, lanes: int, biased: bool) -> Const:
        """The packed codes; `biased`: as 0 to 15 even where they are signed, else as `signed` says."""

        def make() -> np.ndarray:
            codes = self.unsigned(self.q)
            if self.signed and not biased:
                codes = codes - np.uint8(1 << (self.bits - 1))
            if self.bits == 4:
                return pack_nibbles(codes, lanes)
            return pack_panels(codes.view(np.int8) if self.signed else codes, lanes)

        panels, words = -(-self.cols // lanes), -(-self.depth // 8)
        kind = "int8" if self.signed else "uint8"
        shape, dtype = ((panels, words, lanes), "uint32") if self.bits == 4 else ((panels, self.depth, lanes), kind)
        how = f"{self.swapped}:{biased}:{self.signed}:bits{self.bits}:panels{lanes}"
        return Const(shape, dtype, make, f"{self.q.name}:{how}", f"{self.q.name}_packed")

    def nibbles(self, lanes: int) -> Const:
        """Packed indices below 16 of uint4 or uint8."""
        shape = (-(-self.cols // lanes), -(-self.depth // 8), lanes)
        return Const(
            shape, "uint32", lambda: pack_nibbles(self.matrix(self.q), lanes),
            f"{self.q.name}:{self.swapped}:indices:panels{lanes}", f"{self.q.name}_packed",
        )  # fmt: skip

    def scales(self, lanes: int, target: Target) -> Const:
        """The scales [panels, blocks, lanes], in float16 where that holds all of them as they are."""
        scale = self.scale
        assert scale is not None
        dtype = "float32"
        if halves_are_read(target):
            with np.errstate(over="ignore"):
                values = _numbers(scale)
                dtype = "float16" if (values == values.astype(np.float16)).all() else "float32"
        return self._blocks(scale, dtype, lanes, lambda: self.matrix(scale).astype(dtype))

    def zeros(self, lanes: int) -> Const:
        """The zero points [panels, blocks, lanes] as bytes from 0 on; columns beyond the last have 0."""
        zero = self.zero
        if zero is None:  # signed codes read as unsigned ones
            raise ValueError(f"{self.q.name} has no zero points")

        def values() -> np.ndarray:
            return np.broadcast_to(self.unsigned(zero), (self.blocks, self.cols))

        return self._blocks(zero, "uint8", lanes, values)

    def _blocks(self, t: Tensor, dtype: str, lanes: int, values: Callable[[], np.ndarray]) -> Const:
        shape = (-(-self.cols // lanes), self.blocks, lanes)
        key = f"{t.name}:{self.swapped}:{dtype}:{self.blocks}x{self.cols}:panels{lanes}"
        return Const(shape, dtype, lambda: pack_panels(values(), lanes), key, f"{t.name}_packed")


def _numbers(t: Tensor) -> np.ndarray:
    """A constant leaf's data in a type numpy has."""
    assert t.data is not None
    values = np.asarray(t.data())
    if t.dtype in NARROW:
        return values.astype(np.uint8 if t.dtype.startswith("u") else np.int8)
    return values.astype(np.float32) if t.dtype == "bfloat16" else values
