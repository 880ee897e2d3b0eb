"""Attention in one kernel: a work item takes one query, and the scores never leave its registers.

Keys come by a few at a time, with a maximum that grows and sums that are scaled down to it: online softmax (Milakov and
Gimelshein 2018, arXiv:1805.02867; FlashAttention, Dao et al. 2022, arXiv:2205.14135). Neighbouring items take
neighbouring queries of one head, and so read the same keys and values.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from .. import vmath
from ..attention import NEVER, Heads
from ..registry import Call, template
from ..stage import Stage
from ..tensor import Tensor, as_expr, product
from .grid import Grid, place_of
from .tile import kept, loaded

KEYS = 4  # at a time: the sums are scaled once for so many
MOST_SIZE = 256  # of a head: a query, and the sums, are kept in registers


@template("edgert.Attention", "gpu")
def attention(call: Call, target: Target) -> list[Stage] | None:
    """Q [B, H, S, D], K and V [B, H', T, D] (H a multiple of H'), or [B, S, H * D] with layout BSHD and num_heads.

    The mask, added (float32) or selecting (bool), broadcasts to [B, H, S, T]. Attrs scale, causal. float32; B, S, T may
    be symbolic. A query that sees no key gives zeros.
    """
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    sides = [call.need(i) for i in range(3)]
    assert isinstance(target, Gpu)
    if any(t.dtype != "float32" for t in sides) or (mask is not None and mask.dtype not in ("float32", "bool")):
        return None
    if not all(isinstance(t.shape[-1], int) and 0 not in t.shape for t in sides):
        return None
    made = _Attention(call, mask, target)
    return [made.stage()] if max(made.q.size, made.v.size) <= MOST_SIZE else None


class _Attention:
    def __init__(self, call: Call, mask: Tensor | None, target: Gpu) -> None:
        self.call, self.mask = call, mask
        self.q, self.k, self.v = (Heads(call.need(i), call) for i in range(3))
        self.causal = bool(call.attrs.get("causal", 0))
        scale = call.attrs.get("scale")
        self.scale = self.q.size**-0.5 if scale is None else float(scale)
        self.width = target.vector if self.q.size % target.vector == self.v.size % target.vector == 0 else 1
        self.b = Grid(f"attention_f32_d{self.q.size}", target)

    def stage(self) -> Stage:
        """The kernel."""
        b, q, k, v = self.b, self.q, self.k, self.v
        grid = [q.batch, q.heads, q.length]
        with b:
            for side in (q, k, v):
                side.arg(b)
            with b.items(product(grid)) as item:
                self.n, self.h, self.query = place_of(item, grid)
                self.group = self.h if k.heads == q.heads else tirx.truncdiv(self.h, q.heads // k.heads)
                self.queries, self.sums = b.local((q.size,), "float32"), b.local((v.size,), "float32")
                self.top, self.total = b.local((1,), "float32"), b.local((1,), "float32")
                for at in range(0, q.size, self.width):
                    row = self.load(q, self.h, self.query, at)
                    with b.vector(self.width) as lane:
                        b.store(self.queries, at + lane, row[lane] * tirx.const(self.scale, "float32"))
                for at in range(0, v.size, self.width):
                    with b.vector(self.width) as lane:
                        b.store(self.sums, at + lane, 0.0)
                b.store(self.top, 0, tirx.const(NEVER, "float32"))
                b.store(self.total, 0, 0.0)
                with b.serial((k.length + (KEYS - 1)) // KEYS, "part") as part:
                    self.some(b.let(part * KEYS))
                self.finish()
        return b.stage()

    def load(self, side: Heads, head: tirx.Expr, position: tirx.Expr, at: int) -> tirx.Var:
        """Elements at.. of one position of a head, a vector of them."""
        first = self.b.load(side.buffer, *side.at(self.n, head, position, at))
        return loaded(self.b, first, self.width)

    def some(self, first: tirx.Expr) -> None:
        """Takes KEYS keys into the sums."""
        b, width = self.b, self.width
        keys, there = kept(b, first, KEYS, self.k.length)
        scores, weights = b.local((KEYS,), "float32"), b.local((KEYS,), "float32")
        for i, (key, inside) in enumerate(zip(keys, there, strict=True)):
            parts = b.local((width,), "float32")
            with b.vector(width) as lane:
                b.store(parts, lane, 0.0)
            for at in range(0, self.q.size, width):
                row = self.load(self.k, self.group, key, at)
                with b.vector(width) as lane:
                    b.store(parts, lane, parts[lane] + self.queries[at + lane] * row[lane])
            whole = parts[0]
            for lane in range(1, width):
                whole = whole + parts[lane]
            b.store(scores, i, self.seen(b.let(whole), key, inside))
        most = self.top[0]
        for i in range(KEYS):
            most = tirx.max(most, scores[i])
        most = b.let(most)
        never = tirx.const(NEVER, "float32")
        base = b.let(tirx.Select(tirx.EQ(most, never), tirx.const(0, "float32"), most))
        scale = b.keep(vmath.exp_flush(self.top[0] - base))
        total = self.total[0] * scale
        for i in range(KEYS):
            b.store(weights, i, vmath.exp_flush(scores[i] - base))
            total = total + weights[i]
        b.store(self.total, 0, total)
        b.store(self.top, 0, most)
        for at in range(0, self.v.size, width):
            rows = [self.load(self.v, self.group, key, at) for key in keys]
            with b.vector(width) as lane:
                value = self.sums[at + lane] * scale
                for i, row in enumerate(rows):
                    value = value + weights[i] * row[lane]
                b.store(self.sums, at + lane, value)

    def seen(self, score: tirx.Expr, key: tirx.Expr, inside: tirx.Expr | None) -> tirx.Expr:
        """The score with the mask; minus infinity for a key that the query must not see, or that is none."""
        never = tirx.const(NEVER, "float32")
        if self.mask is not None:
            full = [self.n, self.h, self.query, key]
            pairs = zip(self.mask.shape, full[len(full) - self.mask.ndim :], strict=True)
            place = tuple(as_expr(0 if isinstance(d, int) and d == 1 else i) for d, i in pairs)
            there = self.b.read(self.mask, place)
            score = tirx.Select(there, score, never) if self.mask.dtype == "bool" else score + there
        hidden = [] if inside is None else [tirx.Not(inside)]
        if self.causal:
            hidden.append(key > as_expr(self.query, str(key.ty.dtype)))
        for test in hidden:
            score = tirx.Select(test, never, score)
        return score

    def finish(self) -> None:
        """Stores the query's result through the tail."""
        b, call, size = self.b, self.call, self.v.size
        out = b.arg(call.result)
        none = tirx.EQ(self.total[0], tirx.const(0, "float32"))
        factor = b.let(tirx.Select(none, tirx.const(0, "float32"), 1.0 / self.total[0]))
        for d in range(int(size)):
            value = b.let(self.sums[d] * factor)
            b.bind(call.outputs[0], partial(lambda value, *_: value, value))
            if self.q.leaf.ndim == 3:
                at = [self.n, self.query, self.h * size + d]
            else:
                at = [self.n, *((self.query, self.h) if self.q.third else (self.h, self.query)), d]
            place = [as_expr(i) for i in at]
            b.share(place, call.result.shape)
            b.store(out, place, call.final(*place))
