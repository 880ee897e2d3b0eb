"""How a key or value row lies in the cache: one class a format, each told only how to write a row and read a vector.

A reader gives rows without the factor that all elements of one share: `factors` has those, for scores and weights to
be multiplied by, which is cheaper than each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from .builder import Builder
from .dot import load_vector, store_vector
from .registry import Call
from .tensor import Index, as_expr

Vector: TypeAlias = tirx.Expr
KEY, VALUE = 0, 1


@dataclass(eq=False)
class Format:
    """The cache of one layer as a kernel sees it. `extra`: how many result tensors it has besides the cache."""

    b: Builder
    layer: int
    size: int  # elements of a row
    lanes: int
    buffers: Sequence[tirx.Var]

    extra = 0

    @classmethod
    def of(cls, b: Builder, call: Call, size: int, lanes: int) -> Format:
        """The format that the call names, over its results: the memory of the cache as it was, too."""
        kind = FORMATS[call.attrs.get("format", "f16")]
        buffers = [b.arg(t) for t in call.results[1 : 2 + kind.extra]]
        return kind(b, int(call.attrs["layer"]), size, lanes, buffers)

    @staticmethod
    def shapes(layers: int, groups: int, rows: Index, size: int) -> list[tuple[tuple, str]]:
        """Shape and type of the cache and of the further tensors."""
        raise NotImplementedError

    def at(self, kv: int, group: Index, row: Index, *rest: Index) -> list[tirx.Expr]:
        """Indices of a row of keys or values."""
        return [as_expr(i, "int64") for i in (self.layer, kv, group, row, *rest)]

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        """Writes the `size` floats of the local buffer `source` as a row."""
        raise NotImplementedError

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        """Vector c from element `base` (a multiple of 64) on, as float32, less the row's factor."""
        raise NotImplementedError

    def factors(self, kv: int, group: Index, row: Index) -> Vector | None:
        """The factors of `lanes` rows from `row` on."""
        return None


class Half(Format):
    """float16 [layers, 2, groups, rows, size]."""

    @staticmethod
    def shapes(layers: int, groups: int, rows: Index, size: int) -> list[tuple[tuple, str]]:
        return [((layers, 2, groups, rows, size), "float16")]

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        for d in range(0, self.size, self.lanes):
            value = load_vector(source, as_expr(d), count=self.lanes).astype(f"float16x{self.lanes}")
            store_vector(self.b, self.buffers[0], value, *self.at(kv, group, row, d))

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        place = self.at(kv, group, row, base + c * self.lanes)
        return load_vector(self.buffers[0], *place, count=self.lanes).astype(f"float32x{self.lanes}")


FORMATS: dict[str, type[Format]] = {"f16": Half}
