"""A cache of few bits: keys by channel in groups of rows, values by row, the first and the latest rows in float16.

KIVI (Liu et al. 2024, arXiv:2402.02750): a key's channels differ much from each other and little from row to row, so
that a group of rows shares a scale and a least value for each channel; of values the elements of a row do. What came
lately matters most and stays as it is, and so do the first rows, which attention falls back on (StreamingLLM). The
values' elements are mixed by a Hadamard transform, so that no large one sets the scale of the others.

Rows that the window has no room for are folded into groups by cached_attention_fold.py, at the beginning of a call.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tvm import tirx

from .builder import Builder
from .cached_attention_format import KEY, VALUE, Format, Vector
from .dot import load_vector, store_vector
from .hadamard import hadamard
from .nibbles import splat
from .registry import Call
from .stage import Temp
from .tensor import Index, as_expr

SINKS = 4  # first rows
WINDOW = 192  # rows in float16, these among them
GROUP = 32  # rows that are folded together
MOST = 128  # new rows of one call


class Grouped(Format):
    """float16 [layers, 2, groups, WINDOW, size], codes uint8 [layers, 2, groups, rows, size * bits / 8], float16
    factors of keys [layers, 1, groups, rows, 2 * size / GROUP], of values [layers, 1, groups, rows, 2 * size / span].

    Row r of the text is row r of the window where r < SINKS, row r - folded where r >= SINKS + folded, and else row
    r - SINKS of the groups. There byte d of the codes of 8 / bits rows in a run has element d of each, the first row's
    in the lowest bits; a group's factors are every channel's scale, then every channel's least value; those of a
    value's row are scale and least value of one span after the other. x = least + scale * code.
    """

    extra, folds, multiple = 3, True, 32
    bits: ClassVar[int]
    kept: ClassVar[float]  # of a group's range, that a scale spans

    @staticmethod
    def span_of(size: int) -> int:
        """Elements of a value that share scale and least value, and are mixed."""
        return 64 if size % 64 == 0 else 32

    @classmethod
    def shapes(cls, layers: int, groups: int, rows: Index, size: int, each: int = 1) -> list[tuple[tuple, str]]:
        """See Format.shapes."""
        return [
            ((layers, 2, groups, WINDOW, size), "float16"),
            ((layers, 2, groups, rows, size * cls.bits // 8), "uint8"),
            ((layers, 1, groups, rows, 2 * size // GROUP), "float16"),
            ((layers, 1, groups, rows, 2 * size // cls.span_of(size)), "float16"),
        ]

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """See Format.facts."""
        numbers = {"sinks": SINKS, "window": WINDOW, "group": GROUP, "most": MOST}
        return {"folds": {"bits": cls.bits, "kept": cls.kept, **numbers}}

    @classmethod
    def capacity(cls, call: Call) -> Index:
        """See Format.capacity."""
        return call.need(9).shape[3]

    @classmethod
    def mix(cls, b: Builder, row: tirx.Var, size: int, lanes: int) -> None:
        """See Format.mix."""
        hadamard(b, row, size, cls.span_of(size), lanes)

    def bind(self, call: Call, past: tirx.Expr) -> None:
        """See Format.bind. Whatever numbers are given, rows stay within the groups."""
        given, most = self.b.arg(call.need(9 + self.extra)), tirx.max(_i(0), past - SINKS)
        self.folded = self.b.let(tirx.max(_i(0), tirx.min(given[_i(1)], most)), "folded")
        self.before = self.b.let(tirx.max(_i(0), tirx.min(given[_i(0)], self.folded)), "before")

    def window_row(self, row: tirx.Expr) -> tirx.Expr:
        """Where in the window a row of the text is."""
        row = as_expr(row, "int64")
        place = tirx.Select(row < SINKS, row, row - self.folded)
        return tirx.max(_i(0), tirx.min(place, _i(WINDOW - 1)))

    def write(self, kv: int, group: Index, row: Index, source: tirx.Var) -> None:
        """See Format.write."""
        place = self.b.let(self.window_row(row), "place")
        for d in range(0, self.size, self.lanes):
            value = load_vector(source, as_expr(d), count=self.lanes).astype(f"float16x{self.lanes}")
            store_vector(self.b, self.buffers[0], value, *self.at(kv, group, place, d))

    def scratch(self, tasks: int, rows: int) -> None:
        """See Format.scratch."""
        self.floats = self.b.arg(Temp((tasks, 2, rows, self.size), "float32", "cache_rows"))

    def load(self, task: tirx.Expr, group: Index, base: tirx.Expr, count: int) -> None:
        """See Format.load."""
        b = self.b
        self.task, self.base = task, base
        with b.serial(_i(count), "u") as u:
            row = b.let(base + u, "row")
            with b.when(tirx.any(row < SINKS, row >= self.folded + SINKS)):
                place = b.let(self.window_row(row), "place")
                for kv in (KEY, VALUE):
                    with b.serial(_i(self.size // self.lanes), "c") as c:
                        value = load_vector(
                            self.buffers[0], *self.at(kv, group, place, c * self.lanes), count=self.lanes
                        )
                        self._put(kv, u, c, value.astype(f"float32x{self.lanes}"))
            with b.otherwise():
                self._decode(u, group, b.let(row - SINKS, "coded"))

    def _decode(self, u: tirx.Expr, group: Index, row: tirx.Expr) -> None:
        b, lanes, size = self.b, self.lanes, self.size
        first = b.let(tirx.truncdiv(row, _i(GROUP)) * GROUP, "first")
        with b.serial(_i(size // lanes), "c") as c:
            d = c * lanes
            scale, least = (
                load_vector(self.buffers[2], *self.at(0, group, first, d + part), count=lanes) for part in (0, size)
            )
            self._put(KEY, u, c, self._valued(KEY, group, row, d, scale, least))
        span = self.span_of(size)
        with b.serial(_i(size // span), "s") as s:
            scale, least = (
                b.let(self.buffers[3][tuple(self.at(0, group, row, s * 2 + part))].astype("float32"), "factor")
                for part in (0, 1)
            )
            both = [tirx.Broadcast(factor, lanes) for factor in (scale, least)]
            with b.serial(_i(span // lanes), "c") as c:
                at = s * (span // lanes) + c
                self._put(VALUE, u, at, self._valued(VALUE, group, row, at * lanes, *both))

    def _valued(self, kv: int, group: Index, row: tirx.Expr, d: tirx.Expr, scale: Vector, least: Vector) -> Vector:
        """Elements from d on of a row of the groups, as float32."""
        lanes, per = self.lanes, 8 // self.bits
        run = tirx.truncdiv(row, _i(per)) * per
        held = load_vector(self.buffers[1], *self.at(kv, group, run, d), count=lanes).astype(f"int32x{lanes}")
        by = tirx.Broadcast(((row - run) * self.bits).astype("int32"), lanes)
        code = tirx.shift_right(held, by) & splat(2**self.bits - 1, "int32", lanes)
        kind = f"float32x{lanes}"
        return least.astype(kind) + code.astype(kind) * scale.astype(kind)

    def _put(self, kv: int, u: tirx.Expr, c: tirx.Expr, value: Vector) -> None:
        store_vector(self.b, self.floats, value, self.task, _i(kv), u, c * self.lanes)

    def read(self, kv: int, group: Index, row: Index, base: Index, c: int) -> Vector:
        """See Format.read."""
        place = (self.task, _i(kv), as_expr(row, "int64") - self.base, as_expr(base, "int64") + c * self.lanes)
        return load_vector(self.floats, *place, count=self.lanes)

    def fetch(self, kv: int, group: Index, row: Index) -> None:
        """Nothing: rows are read once, by `load`."""


class Grouped2(Grouped):
    """Codes of 2 bits."""

    bits, kept = 2, 0.8


class Grouped4(Grouped):
    """Codes of 4 bits."""

    bits, kept = 4, 1.0


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
