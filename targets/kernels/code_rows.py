"""Rows of floats made in registers, stored as QuantizeRows gives them: for kernels that make the row themselves."""

from __future__ import annotations

from functools import reduce

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import QUAD, store_vector
from .loops import GRAIN
from .nibbles import splat
from .quantize_rows import _fold, _rounded
from .registry import Call
from .rounding import LEAST_SCALE
from .tensor import product


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
        more = call.results[3] if len(call.results) > 3 else None
        self.scaled = None if more is None else b.arg(more, (self.rows, self.blocks))

    @staticmethod
    def take(call: Call) -> bool:
        """Whether the call's first input is rows of float32 in whole blocks."""
        x, block = call.need(0), int(call.attrs["block"])
        depth = x.shape[-1]
        return isinstance(depth, int) and depth % block == 0 and x.dtype == "float32" and product(x.shape) != 0

    def places(self) -> range:
        """Where the vectors of a block start in it."""
        return range(0, self.block, self.lanes)

    def store(self, row: tirx.Expr, at: tirx.Expr, parts: list[tirx.Expr]) -> None:
        """Block `at` of a row, given as float32 vectors: see compiler/ops/blocked.py's QuantizeRows."""
        b, lanes = self.b, self.lanes
        sizes = [tirx.max(part, splat(0.0, "float32", lanes) - part) for part in parts]
        most = reduce(lambda p, q: b.let(tirx.max(p, q)), sizes)
        largest = _fold(b, most, lanes, tirx.max)
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
        sums = [b.let(_fold(b, total, lanes, lambda p, q: p + q)) for total in totals]
        for i, part in enumerate(sums):
            b.store(self.offsets, (row, at * (self.block // self.each) + i), part * tirx.const(-2 * QUAD, "int32"))
        if self.scaled is not None:
            b.store(self.scaled, (row, at), reduce(lambda p, q: p + q, sums).astype("float32") * scale)
