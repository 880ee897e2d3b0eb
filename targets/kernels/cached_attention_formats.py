"""How a key or value row lies in the cache: one class a format, each told only how to write a row and read a vector.

A reader gives rows without the factor that all elements of one share: `factors` has those, for scores and weights to
be multiplied by, which is cheaper than each element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tvm import tirx

from targets.dtypes import item_size

from .builder import Builder
from .dot import load_vector, store_vector
from .nibbles import splat
from .registry import Call
from .rounding import LEAST_SCALE, MAGIC, MAGIC_BITS
from .stage import Const
from .tensor import Index, as_expr
from .tiles_emit import prefetch

Vector: TypeAlias = tirx.Expr
KEY, VALUE = 0, 1
LINE = 64  # bytes of a line of the caches
SPAN = 32  # elements that share a scale and a least value


@dataclass(eq=False)
class Format:
    """The cache of one layer as a kernel sees it. `extra`: how many result tensors it has besides the cache."""

    b: Builder
    layer: tirx.Expr
    size: int  # elements of a row
    lanes: int
    buffers: Sequence[tirx.Var]

    extra = 0
    multiple = 16  # of which a row's size is one

    @classmethod
    def of(cls, b: Builder, call: Call, size: int, lanes: int) -> Format:
        """The format that the call names, over its results: the memory of the cache as it was, too."""
        kind = FORMATS[call.attrs.get("format", "f16")]
        buffers = [b.arg(t) for t in call.results[1 : 2 + kind.extra]]
        return kind(b, layer_of(b, int(call.attrs["layer"])), size, lanes, buffers)

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
        """Vector c from element `base` (a multiple of 32) on, as float32, less the row's factor."""
        raise NotImplementedError

    def fetch(self, kv: int, group: Index, row: Index) -> None:
        """Asks for the lines of a row that will be read before long; it need not be there."""
        buffer = self.buffers[0]
        width = int(buffer.shape[-1].value)
        line = LINE // item_size(str(buffer.dtype))
        for d in range(0, width, line):
            prefetch(self.b, buffer, tuple(self.at(kv, group, row, d)))

    def factors(self, kv: int, group: Index, row: Index) -> Vector | None:
        """The factors of `lanes` rows from `row` on."""
        return None


class Half(Format):
    """float16 [layers, 2, groups, rows, size]."""

    @staticmethod
    def shapes(layers: int, groups: int, rows: Index, size: int) -> list[tuple[tuple, str]]:
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

    @staticmethod
    def shapes(layers: int, groups: int, rows: Index, size: int) -> list[tuple[tuple, str]]:
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


class Nibble(Format):
    """uint8 [layers, 2, groups, rows, size / 2] and float16 [layers, 2, groups, rows, size / 16].

    Of every SPAN neighbours x = least + scale * code, with codes of 4 bits: byte i of the span has those of elements i
    (low half) and i + SPAN / 2. The second tensor has scale and least of one span after the other.
    """

    extra = 1
    multiple = SPAN

    @staticmethod
    def shapes(layers: int, groups: int, rows: Index, size: int) -> list[tuple[tuple, str]]:
        """See Format.shapes."""
        lead = (layers, 2, groups, rows)
        return [((*lead, size // 2), "uint8"), ((*lead, size // SPAN * 2), "float16")]

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        """See Format.write."""
        b, lanes = self.b, min(self.lanes, SPAN // 2)
        for start in range(0, self.size, SPAN):
            parts = [load_vector(source, as_expr(start + d), count=lanes) for d in range(0, SPAN, lanes)]
            least = b.keep(fold(b, parts, lanes, tirx.min).astype("float16").astype("float32"))
            most = fold(b, parts, lanes, tirx.max)
            scale = b.keep(((most - least) / as_expr(15.0)).astype("float16").astype("float32"))
            # of a span of equal numbers the scale is zero: all codes are
            over = b.keep(tirx.Select(scale > as_expr(0.0), as_expr(1.0) / scale, as_expr(0.0)))
            b.store(self.buffers[1], self.at(kv, group, row, start // SPAN * 2), scale)
            b.store(self.buffers[1], self.at(kv, group, row, start // SPAN * 2 + 1), least)
            codes = [
                whole((part - tirx.Broadcast(least, lanes)) * tirx.Broadcast(over, lanes), 0, 15, lanes)
                for part in parts
            ]
            four = splat(4, "int32", lanes)
            for i in range(len(codes) // 2):
                pair = codes[i] | tirx.shift_left(codes[i + len(codes) // 2], four)
                place = self.at(kv, group, row, start // 2 + i * lanes)
                store_vector(b, self.buffers[0], pair.astype(f"uint8x{lanes}"), *place)

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        """See Format.read."""
        lanes, start = self.lanes, c * self.lanes
        span, within = start // SPAN, start % SPAN
        half, at = within // (SPAN // 2), within % (SPAN // 2)
        base = as_expr(base, "int64")
        place = self.at(kv, group, row, tirx.truncdiv(base, as_expr(2, "int64")) + span * (SPAN // 2) + at)
        bits = load_vector(self.buffers[0], *place, count=lanes).astype(f"int32x{lanes}")
        code = tirx.shift_right(bits, splat(4, "int32", lanes)) if half else bits & splat(15, "int32", lanes)
        which = tirx.truncdiv(base, as_expr(SPAN // 2, "int64")) + span * 2
        # both of them, in turns, in one conversion
        two = load_vector(self.buffers[1], *self.at(kv, group, row, which), count=2)
        pairs = tirx.Broadcast(tirx.reinterpret("int32", two), lanes // 2)
        both = tirx.reinterpret(f"float16x{lanes}", pairs).astype(f"float32x{lanes}")
        both = self.b.let(both, "span")
        scale, least = (tirx.Shuffle([both], [as_expr(u // 2 * 2 + i) for u in range(lanes)]) for i in (0, 1))
        return least + code.astype(f"float32x{lanes}") * scale


def layer_of(b: Builder, layer: int) -> tirx.Expr:
    """The layer's number, read from a constant: so all layers share one kernel."""
    leaf = Const((1,), "int64", lambda: np.array([layer], np.int64), f"layer number {layer}", "layer")
    return b.arg(leaf)[as_expr(0, "int64")]


def whole(value: Vector, low: int, high: int, lanes: int) -> Vector:
    """Rounded to the nearest whole number, ties to even, between `low` and `high`, as int32."""
    held = tirx.min(tirx.max(value, splat(low, "float32", lanes)), splat(high, "float32", lanes))
    bits = tirx.reinterpret(f"int32x{lanes}", held + splat(MAGIC, "float32", lanes))
    return bits - splat(MAGIC_BITS, "int32", lanes)


def fold(b: Builder, vectors: Sequence[Vector], lanes: int, combine: Callable[..., tirx.Expr]) -> tirx.Expr:
    """One number of all lanes of all vectors: halves combined until one lane is left.

    Held in locals: TVM's simplifier puts bound values back in place, which takes exponential time for a chain of them.
    """
    held = b.local((lanes,), "float32")
    store_vector(b, held, vectors[0], as_expr(0))
    for vector in vectors[1:]:
        store_vector(b, held, combine(load_vector(held, as_expr(0), count=lanes), vector), as_expr(0))
    while lanes > 2:
        lanes //= 2
        value = combine(*(load_vector(held, as_expr(s), count=lanes) for s in (0, lanes)))
        held = b.local((lanes,), "float32")
        store_vector(b, held, value, as_expr(0))
    return combine(held[0], held[1])


FORMATS: dict[str, type[Format]] = {"f16": Half, "i8": Byte, "i4": Nibble}
