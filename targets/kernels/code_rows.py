"""Rows of floats made in registers, stored as QuantizeRows gives them: for kernels that make the row themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import QUAD, store_vector
from .half_rows import HalfRows, code_results
from .loops import GRAIN
from .nibbles import splat
from .registry import Call
from .rounding import LEAST_SCALE, MAGIC, MAGIC_BITS
from .tensor import as_expr, product


class CodeRows:
    """The results of a call that gives codes int8 [..., K], scales float32 [..., K/block], offsets int32 [..., K/sums]
    and perhaps scaled sums float32 [..., K/block].
    """

    def __init__(self, b: Builder, call: Call, target: Target) -> None:
        x = call.need(0)
        self.b, self.block = b, int(call.attrs["block"])
        self.each = int(call.attrs.get("sums", self.block))
        self.depth = int(x.shape[-1])
        self.lanes = min(target.lanes("float32"), self.block & -self.block, self.each & -self.each)
        self.rows, self.blocks = product(x.shape[:-1]), self.depth // self.block
        self.grain = max(1, GRAIN // self.depth)  # rows that are worth a thread
        self.codes = b.arg(call.results[0], (self.rows, self.depth))
        self.scales = b.arg(call.results[1], (self.rows, self.blocks))
        self.offsets = b.arg(call.results[2], (self.rows, self.depth // self.each))
        more = call.results[3] if code_results(call) > 3 else None
        self.scaled = None if more is None else b.arg(more, (self.rows, self.blocks))
        self.halves = HalfRows(b, call, self.rows)

    @staticmethod
    def take(call: Call) -> bool:
        """Whether the call's first input is rows of float32 in whole blocks."""
        x, block = call.need(0), int(call.attrs["block"])
        depth = x.shape[-1]
        return isinstance(depth, int) and depth % block == 0 and x.dtype == "float32" and product(x.shape) != 0

    def places(self) -> range:
        """Where the vectors of a block start in it."""
        return range(0, self.block, self.lanes)

    def put(self, row: tirx.Expr, make: Callable[[tirx.Expr], list[tirx.Expr]]) -> None:
        """Stores a row; make(at) gives block `at` as float32 vectors."""
        b = self.b

        def as_codes() -> None:
            with b.serial(tirx.const(self.blocks, "int64"), "block") as at:
                block = as_expr(at, "int64")
                self.store(row, block, make(block))

        def as_halves() -> None:
            with b.serial(tirx.const(self.blocks, "int64"), "block") as at:
                first = as_expr(at, "int64") * self.block
                for i, part in zip(self.places(), make(as_expr(at, "int64")), strict=True):
                    self.halves.store(row, first + i, part)

        self.halves.instead(as_halves, as_codes)

    def store(self, row: tirx.Expr, at: tirx.Expr, parts: list[tirx.Expr]) -> None:
        """Block `at` of a row, given as float32 vectors: see compiler/ops/blocked.py's QuantizeRows."""
        b, lanes = self.b, self.lanes
        sizes = [tirx.max(part, splat(0.0, "float32", lanes) - part) for part in parts]
        most = reduce(lambda p, q: b.let(tirx.max(p, q)), sizes)
        largest = fold(b, most, lanes, tirx.max)
        scale = b.let(tirx.max(largest / tirx.const(127.0, "float32"), tirx.const(LEAST_SCALE, "float32")))
        b.store(self.scales, (row, at), scale)
        totals: list[tirx.Expr] = []
        for i, part in zip(self.places(), parts, strict=True):
            whole = b.let(_rounded(part / tirx.Broadcast(scale, lanes), lanes))
            store_vector(b, self.codes, whole.astype(f"int8x{lanes}"), row, at * self.block + i)
            if i % self.each:
                totals[-1] = b.let(totals[-1] + whole)
            else:
                totals.append(whole)
        sums = [b.let(fold(b, total, lanes, lambda p, q: p + q)) for total in totals]
        for i, part in enumerate(sums):
            b.store(self.offsets, (row, at * (self.block // self.each) + i), part * tirx.const(-2 * QUAD, "int32"))
        if self.scaled is not None:
            b.store(self.scaled, (row, at), reduce(lambda p, q: p + q, sums).astype("float32") * scale)


def _rounded(value: tirx.Expr, lanes: int) -> tirx.Expr:
    """Rounded to the nearest whole number, ties to even, as int32; |value| is at most 127 and a rounding."""
    held = tirx.min(tirx.max(value, splat(-128.0, "float32", lanes)), splat(127.0, "float32", lanes))
    bits = tirx.reinterpret(f"int32x{lanes}", held + splat(MAGIC, "float32", lanes))
    return bits - splat(MAGIC_BITS, "int32", lanes)


def fold(b: Builder, vector: tirx.Expr, lanes: int, combine: Callable[..., tirx.Expr]) -> tirx.Expr:
    """One number of all lanes: halves combined until one lane is left."""
    while lanes > 1:
        lanes //= 2
        low, high = (
            tirx.Shuffle([vector], [tirx.const(start + i, "int32") for i in range(lanes)]) for start in (0, lanes)
        )
        vector = b.let(combine(low, high))
    return vector
