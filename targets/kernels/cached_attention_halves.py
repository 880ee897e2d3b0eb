"""Caches of rows by themselves: in float16, and in bytes with a scale a row."""

from __future__ import annotations

from tvm import tirx

from .cached_attention_format import Format, Vector, fold, whole
from .dot import load_vector, store_vector
from .nibbles import splat
from .rounding import LEAST_SCALE
from .tensor import Index, as_expr


class Half(Format):
    """float16 [layers, 2, groups, rows, size]."""

    @classmethod
    def shapes(cls, layers: int, groups: int, rows: Index, size: int, each: int = 1) -> list[tuple[tuple, str]]:
        """See Format.shapes."""
        return [((layers, 2, groups, rows, size), "float16")]

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        """See Format.write."""
        for d in range(0, self.size, self.lanes):
            value = load_vector(source, as_expr(d), count=self.lanes).astype(f"float16x{self.lanes}")
            store_vector(self.b, self.buffers[0], value, *self.at(kv, group, row, d))

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        """See Format.read."""
        place = self.at(kv, group, row, base + c * self.lanes)
        return load_vector(self.buffers[0], *place, count=self.lanes).astype(f"float32x{self.lanes}")


class Byte(Format):
    """int8 [layers, 2, groups, rows, size] and a float32 scale [layers, 2, groups, rows]: code = x / scale rounded."""

    extra = 1

    @classmethod
    def shapes(cls, layers: int, groups: int, rows: Index, size: int, each: int = 1) -> list[tuple[tuple, str]]:
        """See Format.shapes."""
        return [((layers, 2, groups, rows, size), "int8"), ((layers, 2, groups, rows), "float32")]

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        """See Format.write."""
        b, lanes = self.b, self.lanes
        zero = splat(0.0, "float32", lanes)

        def size(d: int) -> Vector:
            value = load_vector(source, as_expr(d), count=lanes)
            return tirx.max(value, zero - value)

        largest = fold(b, [size(d) for d in range(0, self.size, lanes)], lanes, tirx.max)
        scale = b.keep(tirx.max(largest / tirx.const(127.0, "float32"), tirx.const(LEAST_SCALE, "float32")))
        b.store(self.buffers[1], self.at(kv, group, row), scale)
        for d in range(0, self.size, lanes):
            value = load_vector(source, as_expr(d), count=lanes) / tirx.Broadcast(scale, lanes)
            code = whole(value, -127, 127, lanes).astype(f"int8x{lanes}")
            store_vector(b, self.buffers[0], code, *self.at(kv, group, row, d))

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        """See Format.read."""
        place = self.at(kv, group, row, base + c * self.lanes)
        return load_vector(self.buffers[0], *place, count=self.lanes).astype(f"float32x{self.lanes}")

    def factors(self, kv: int, group: Index, row: Index) -> Vector:
        """See Format.factors."""
        return load_vector(self.buffers[1], *self.at(kv, group, row), count=self.lanes)
