"""What the kernels ask of a format of the cache: to write a row and to read a vector.

A reader gives rows without the factor that all elements of one share: `factors` has those, for scores and weights to
be multiplied by, which is cheaper than each element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
from tvm import tirx

from targets.dtypes import item_size

from .builder import Builder
from .dot import load_vector, store_vector
from .nibbles import splat
from .registry import Call
from .rounding import MAGIC, MAGIC_BITS
from .stage import Const
from .tensor import Index, as_expr
from .tiles_emit import prefetch

Vector: TypeAlias = tirx.Expr
KEY, VALUE = 0, 1
LINE = 64  # bytes of a line of the caches


@dataclass(eq=False)
class Format:
    """The cache of one layer as a kernel sees it. `extra`: how many result tensors it has besides the cache."""

    b: Builder
    layer: tirx.Expr
    size: int  # elements of a row
    lanes: int
    buffers: Sequence[tirx.Var]

    extra: ClassVar[int] = 0
    multiple: ClassVar[int] = 16  # of which a row's size is one
    folds: ClassVar[bool] = False  # whether rows are stored anew as they grow old: the call then has `folded`, too

    @classmethod
    def shapes(cls, layers: int, groups: int, rows: Index, size: int, each: int = 1) -> list[tuple[tuple, str]]:
        """Shape and type of the cache and of the further tensors. each: query heads that share a group."""
        raise NotImplementedError

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """What else the engine has to know of it, for the manifest's entry `decoder`."""
        return {}

    @classmethod
    def capacity(cls, call: Call) -> Index:
        """Rows that the cache has room for."""
        return call.need(3).shape[3]

    @classmethod
    def mix(cls, b: Builder, row: tirx.Var, size: int, lanes: int) -> None:
        """Turns the local buffer `row`, a value, into what is stored, and the weighted sum of such ones back."""

    def bind(self, call: Call, past: tirx.Expr) -> None:
        """Reads what else the call says of the cache, of which `past` rows are old."""

    def watch(self, group: Index, h: tirx.Expr, row: tirx.Expr, left: tirx.Expr, d: int, query: Vector) -> None:
        """Is shown elements from d on of head h's query of a row, which `left` new rows follow."""

    def scratch(self, tasks: int, rows: int) -> None:
        """Is told before any `load` how many tasks read at once, and how many rows."""

    def load(self, task: tirx.Expr, group: Index, base: tirx.Expr, count: int) -> None:
        """Gets the keys and values [base, base + count) ready, which alone are read until the next."""

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


def layer_of(b: Builder, layer: int) -> tirx.Expr:
    """The layer's number, read from a constant: so all layers share one kernel."""
    return b.arg(_number(layer))[as_expr(0, "int64")]


def _number(layer: int) -> Const:
    data = partial(np.array, [layer], np.int64)
    return Const((1,), "int64", data, f"layer number {layer}", "layer", lambda to, attrs: _number(int(attrs["layer"])))


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
