"""Attention without the scores in memory: softmax(Q K^T * scale + mask) V for one vector of queries at a time.

Flash attention (Dao et al. 2022, arXiv:2205.14135) with queries in the lanes: Q is turned once a task, then every key
is a broadcast times a vector of queries, so that the softmax needs no horizontal step and K, V are read in place.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from . import vmath
from .builder import Builder
from .lanes import load_vector, store_vector, turn
from .loops import ceil_div, span, split, tasks
from .registry import Call, template
from .stage import Stage, Temp
from .tensor import Index, Tensor, as_expr, product

KEYS = 96  # keys of a block: its weights stay in L1
STACK = 12 << 10  # bytes of scratch kept on the stack
NEVER = -float("inf")


@template("edgert.Attention")
def attention(call: Call, target: Target) -> list[Stage] | None:
    """Q [B, H, S, D], K and V [B, H', T, D] (H a multiple of H'), or [B, S, H * D] with layout BSHD and num_heads.

    The mask, added (float32) or selecting (bool), broadcasts to [B, H, S, T]. Attrs scale, causal. float32; B, S, T may
    be symbolic. A query that sees no key gives zeros.
    """
    q, k, v = (call.need(i) for i in range(3))
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    if any(t.dtype != "float32" for t in (q, k, v)) or (mask is not None and mask.dtype not in ("float32", "bool")):
        return None
    if not (isinstance(q.shape[-1], int) and isinstance(v.shape[-1], int)):
        return None
    return _Attention(call, target).stages()


class Heads:
    """Q, K or V in either layout, as [batch, heads, length, size]."""

    def __init__(self, t: Tensor, call: Call) -> None:
        self.leaf, self.third = t, call.attrs.get("layout", "BHSD") != "BHSD" or t.ndim == 3
        if t.ndim == 4:
            self.batch, self.size = t.shape[0], t.shape[3]
            self.heads, self.length = (t.shape[2], t.shape[1]) if self.third else (t.shape[1], t.shape[2])
        else:
            self.batch, self.length, self.heads = t.shape[0], t.shape[1], int(call.attrs["num_heads"])
            self.size = t.shape[2] // self.heads

    def arg(self, b: Builder) -> None:
        """Makes it an operand of the kernel."""
        order = [self.length, self.heads] if self.third else [self.heads, self.length]
        self.buffer = b.arg(self.leaf, [self.batch, *order, self.size])

    def at(self, n: Index, h: Index, s: Index, d: Index) -> tuple:
        """Indices of element d of position s of head h."""
        return tuple(as_expr(i) for i in ((n, s, h, d) if self.third else (n, h, s, d)))


class _Attention:
    def __init__(self, call: Call, target: Target) -> None:
        self.call, self.target = call, target
        self.q, self.k, self.v = (Heads(call.need(i), call) for i in range(3))
        self.mask = call.inputs[3] if len(call.inputs) > 3 else None
        self.causal = bool(call.attrs.get("causal", 0))
        scale = call.attrs.get("scale")
        self.scale = self.q.size**-0.5 if scale is None else float(scale)
        self.lanes = target.lanes("float32")
        self.tile = 16 if target.registers >= 32 else 8  # keys (or columns of V) in registers
        self.width = -(-self.v.size // self.lanes) * self.lanes  # rows of the result before it is turned back

    def stages(self) -> list[Stage]:
        b = self.b = Builder(f"attention_f32_{self.lanes}x{self.tile}_d{self.q.size}_{self.target.name}")
        with b:
            for side in (self.q, self.k, self.v):
                side.arg(b)
            self.out = b.arg(self.call.result)
            self._value: tirx.Expr | None = None
            b.bind(self.call.outputs[0], lambda *i: self._value)
            blocks = ceil_div(self.q.length, self.lanes)
            extents = [self.q.batch, self.q.heads, blocks]
            work = self.lanes * self.q.size * (self.k.length if isinstance(self.k.length, int) else KEYS)
            with tasks(b, extents, work) as (self.n, self.h, block):
                task = (self.n * self.q.heads + self.h) * blocks + block
                self.group = self.h if self.k.heads == self.q.heads else self.h // (self.q.heads // self.k.heads)
                self.first = b.let(as_expr(block, "int64") * self.lanes, "first")
                self.queries(task, extents)
                self.scan()
                self.finish()
        return [b.stage()]

    # ---- steps of one task ---------------------------------------------------------------------------------
    def queries(self, task: tirx.Expr, extents: list[Index]) -> None:
        """Scratch, and this task's queries turned: one vector of queries for each element of a head."""
        b, lanes, size = self.b, self.lanes, self.q.size
        rows = [size, KEYS, self.width]
        if sum(rows) * lanes * 4 <= STACK:
            buffers = [b.local((r * lanes,), "float32") for r in rows]
            self.qt, self.p, self.o = (lambda r, v, buf=buf: (buf, [r * lanes + v]) for buf in buffers)
        else:
            scratch = b.arg(Temp((product(extents), sum(rows) * lanes), "float32", "attention"))
            starts = [0, rows[0], rows[0] + rows[1]]
            self.qt, self.p, self.o = (lambda r, v, at=at: (scratch, [task, (r + at) * lanes + v]) for at in starts)
        self.top, self.total, self.rescale = (b.local((lanes,), "float32") for _ in range(3))
        last = as_expr(self.q.length, "int64") - 1

        def gathered(d: Index) -> None:
            with b.vector(lanes) as v:
                place = self.q.at(self.n, self.h, tirx.min(self.first + v, last), d)
                self.put(self.qt, d, v, self.q.buffer[place] * tirx.const(self.scale, "float32"))

        whole = size // lanes
        with b.when(self.first + lanes <= as_expr(self.q.length, "int64")):
            with b.serial(whole, "d") as d:
                rows_in = [
                    load_vector(self.q.buffer, self.q.at(self.n, self.h, self.first + r, as_expr(d) * lanes), lanes)
                    * tirx.Broadcast(tirx.const(self.scale, "float32"), lanes)
                    for r in range(lanes)
                ]
                for c, column in enumerate(turn(b, rows_in, lanes)):
                    buffer, place = self.qt(as_expr(d) * lanes + c, 0)
                    store_vector(b, buffer, place, column, lanes)
            for d in range(whole * lanes, size):
                gathered(d)
        with b.otherwise(), b.serial(size, "d") as d:
            gathered(d)
        with b.vector(lanes) as v:
            b.store(self.top, v, NEVER)
            b.store(self.total, v, 0.0)
        with b.serial(self.width, "d") as d, b.vector(lanes) as v:
            self.put(self.o, d, v, as_expr(0.0))

    def scan(self) -> None:
        """All keys, a block at a time; the running maximum and sum are corrected after each."""
        b, length = self.b, self.k.length
        if self.causal:
            seen = tirx.min(as_expr(length, "int64"), self.first + self.lanes)  # no later key is seen by these queries
            length = b.let(seen, "seen")
        if isinstance(length, int) and length <= KEYS:
            self.block(as_expr(0, "int64"), length)
            return
        with b.serial(ceil_div(length, KEYS), "block") as block:
            start = b.let(as_expr(block, "int64") * KEYS, "start")
            count: Index = KEYS
            if not (isinstance(length, int) and length % KEYS == 0):
                count = b.let(tirx.min(as_expr(KEYS, "int64"), as_expr(length, "int64") - start), "count")
            self.block(start, count)

    def block(self, start: tirx.Expr, count: Index) -> None:
        b, lanes = self.b, self.lanes
        best = b.local((lanes,), "float32")
        with b.vector(lanes) as v:
            b.store(best, v, self.top[v])
        pieces(b, count, (self.tile, 4, 1), lambda at, tile: self.scores(best, start, at, tile))
        with b.vector(lanes) as v:
            # where nothing is seen yet the maximum is -inf: 0 in its place keeps exp(-inf - max) zero instead of NaN
            top = b.let(tirx.Select(best[v] == as_expr(NEVER), as_expr(0.0), best[v]), "top")
            b.store(self.rescale, v, vmath.exp_flush(self.top[v] - top))
            b.store(self.top, v, best[v])
            b.store(best, v, top)
            b.store(self.total, v, self.total[v] * self.rescale[v])
        with b.serial(count, "t") as t, b.vector(lanes) as v:
            weight = b.let(vmath.exp_flush(self.get(self.p, t, v) - best[v]), "w")
            self.put(self.p, t, v, weight)
            b.store(self.total, v, self.total[v] + weight)
        size = self.v.size
        with b.serial(size // self.tile, "d") as d:
            self.values(start, count, as_expr(d) * self.tile, self.tile)
        if size % self.tile:
            self.values(start, count, size - size % self.tile, size % self.tile)

    def scores(self, best: tirx.Var, start: tirx.Expr, at: Index, tile: int) -> None:
        """Scores of `tile` keys from start + at on, stored in p; raises `best` to their maximum."""
        b, lanes = self.b, self.lanes
        acc = b.local((tile * lanes,), "float32")
        key = b.let(start + at, "key")
        with b.unroll(tile) as u, b.vector(lanes) as v:
            b.store(acc, u * lanes + v, 0.0)
        with b.serial(self.k.size, "d") as d, b.unroll(tile) as u, b.vector(lanes) as v:
            k = self.k.buffer[self.k.at(self.n, self.group, key + u, d)]
            b.store(acc, u * lanes + v, acc[u * lanes + v] + k * self.get(self.qt, d, v))
        with b.unroll(tile) as u, b.vector(lanes) as v:
            score = b.let(self.masked(acc[u * lanes + v], v, key + u), "s")
            self.put(self.p, as_expr(at, "int64") + u, v, score)
            b.store(best, v, tirx.Select(score > best[v], score, best[v]))

    def masked(self, score: tirx.Expr, v: tirx.Expr, key: tirx.Expr) -> tirx.Expr:
        """A score with the mask applied."""
        if self.mask is not None:
            last = as_expr(self.q.length, "int64") - 1
            full = [self.n, self.h, tirx.min(self.first + v, last), key]
            shape = self.mask.shape
            at = full[len(full) - len(shape) :]
            pairs = zip(shape, at, strict=True)
            place = [as_expr(0, "int64") if isinstance(s, int) and s == 1 else i for s, i in pairs]
            there = self.b.read(self.mask, tuple(place))
            score = tirx.Select(there, score, as_expr(NEVER)) if self.mask.dtype == "bool" else score + there
        if self.causal:
            score = tirx.Select(self.first + v < key, as_expr(NEVER), score)
        return score

    def values(self, start: tirx.Expr, count: Index, d: Index, tile: int) -> None:
        """Adds this block's weighted V to `tile` columns of the result from column d on."""
        b, lanes = self.b, self.lanes
        acc = b.local((tile * lanes,), "float32")
        with b.unroll(tile) as u, b.vector(lanes) as v:
            b.store(acc, u * lanes + v, self.get(self.o, d + u, v) * self.rescale[v])
        with b.serial(count, "t") as t, b.unroll(tile) as u, b.vector(lanes) as v:
            value = self.v.buffer[self.v.at(self.n, self.group, start + t, d + u)]
            b.store(acc, u * lanes + v, acc[u * lanes + v] + value * self.get(self.p, t, v))
        with b.unroll(tile) as u, b.vector(lanes) as v:
            self.put(self.o, d + u, v, acc[u * lanes + v])

    def finish(self) -> None:
        """Divides by the sums, turns the block back and stores it through the tail."""
        b, lanes, size = self.b, self.lanes, self.v.size
        with b.vector(lanes) as v:
            total = self.total[v]
            b.store(self.total, v, tirx.Select(total == as_expr(0.0), as_expr(0.0), as_expr(1.0) / total))
        count = b.let(tirx.min(as_expr(lanes, "int64"), as_expr(self.q.length, "int64") - self.first), "rows")
        square = b.local((lanes * lanes,), "float32")
        for start in range(0, self.width, lanes):
            rows = []
            for r in range(lanes):
                buffer, place = self.o(start + r, 0)
                rows.append(load_vector(buffer, place, lanes) * load_vector(self.total, [0], lanes))
            for c, column in enumerate(turn(b, rows, lanes)):
                store_vector(b, square, [c * lanes], column, lanes)
            with b.serial(count, "r") as r:
                span(b, min(lanes, size - start), lanes, lambda d: self.store(square, r, d, start))  # noqa: B023

    def store(self, square: tirx.Var, r: tirx.Expr, d: tirx.Expr, start: int) -> None:
        self._value = square[as_expr(r, "int64") * self.lanes + as_expr(d, "int64")]
        column, s = as_expr(d, "int64") + start, self.first + r
        if len(self.call.outputs[0].shape) == 3:
            place = [self.n, s, as_expr(self.h, "int64") * self.v.size + column]
        else:
            place = [self.n, s, self.h, column] if self.q.third else [self.n, self.h, s, column]
        self.b.share([as_expr(i) for i in place], self.call.outputs[0].shape)
        self.b.store(self.out, place, self.call.final(*place))

    # ---- scratch -------------------------------------------------------------------------------------------
    def get(self, rows: Callable, row: Index, v: tirx.Expr) -> tirx.Expr:
        buffer, place = rows(row, v)
        return buffer[tuple(place)]

    def put(self, rows: Callable, row: Index, v: tirx.Expr, value: tirx.Expr) -> None:
        buffer, place = rows(row, v)
        self.b.store(buffer, place, value)


def pieces(b: Builder, count: Index, sizes: tuple[int, ...], emit: Callable[[Index, int], None]) -> None:
    """Covers `count` with emit(start, size), the largest sizes first."""
    start: Index = 0
    for size in sizes:
        whole, rest = split(count, size)
        if whole != 0 if isinstance(whole, int) else True:
            with b.serial(whole, "g") as g:
                emit(start + as_expr(g, "int64") * size, size)
        start, count = start + whole * size, rest
