"""Attention between bytes without scores in memory: integer products, and a softmax of floats from bytes to bytes.

A task takes one head and packs its keys and values for the products, as constant weights are packed at compile time;
then blocks of 16 queries go through the three steps (scores, softmax, sums of values) in scratch that stays in L1.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from targets.target import Target

from .attention import Heads
from .attention_amx import AmxProducts
from .attention_dot import DotProducts
from .attention_operands import pack_keys, pack_values, read_bias
from .attention_rows import softmax_rows
from .builder import Builder
from .dot import QUAD, dot_of
from .nibbles import is_x86
from .registry import Call, template
from .stage import Stage, Temp
from .tails import unravel
from .tensor import Index, Tensor, as_expr, product, same_dim, simplify

BLOCK = 16  # queries
TOGETHER = 4  # of which so many go through the softmax at once
FEW_HEADS = 8  # below this the queries of a head are shared among tasks, for threads to have work
FLIP = 128  # between uint8 and int8


@template("edgert.IntegerAttention")
def integer_attention(call: Call, target: Target) -> list[Stage] | None:
    """Q [B, H, S, D], K [B, H, T, D], V [B, H, T, Dv] of bytes, or as layout and num_heads say; result int32.

    The mask, added (float32) or selecting (bool), broadcasts to [B, H, S, T]. B, S and T may be symbolic. A query that
    sees no key gives probabilities of zero. Attribute `lean`: one head after the other on one thread, in scratch space
    for one; else every head has its own, and few heads are shared among several tasks.
    """
    q, k, v = (call.need(i) for i in range(3))
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    if not takes(q.dtype, target) or (mask is not None and mask.dtype not in ("float32", "bool")):
        return None
    if any(isinstance(s, int) and s == 0 for t in (q, k, v) for s in t.shape):
        return None
    sides = [Heads(t, call) for t in (q, k, v)]
    if not all(isinstance(side.size, int) and same_dim(side.heads, sides[0].heads) for side in sides):
        return None
    return [_Attention(call, target, sides, mask).stage()]


def takes(dtype: str, target: Target) -> bool:
    """Whether queries of this type can be the left side of products."""
    return dtype == "uint8" or dot_of(target).signed_left


@dataclass
class Scratch:
    """A task's own memory, [tasks, ...]; `padded`: the number of keys up to a whole group."""

    padded: Index
    keys: tirx.Var  # int32 [panels + 1, quads of a head, lanes]: quads of bytes; the last panel is all ones
    values: tirx.Var  # int32 [panels (+ 1 of ones), padded / 4, lanes]: quads of bytes
    offsets: tirx.Var  # int32 [padded]: what the queries' zero point takes off the scores of each key
    bias: tirx.Var  # float32 [1 or rows at once, padded]: the mask, minus infinity beyond the last key
    scores: tirx.Var  # int32 [rows, padded + lanes]: sums, then the bits of floats
    codes: tirx.Var  # uint8 [rows, padded]: probabilities, in the order `slots` tells
    context: tirx.Var  # int32 [rows, columns (+ lanes)]


class _Attention:
    def __init__(self, call: Call, target: Target, sides: list[Heads], mask: Tensor | None) -> None:
        self.call, self.target, self.mask = call, target, mask
        self.q, self.k, self.v = sides
        self.lanes = target.lanes("int32")
        self.group = 4 * self.lanes  # keys that are packed to one vector of bytes
        self.dot = dot_of(target)
        self.q_zero, k_zero, v_zero = (int(call.attrs.get(f"{n}_zero", 0)) for n in "qkv")
        # what is left of a zero point once the side is int8
        self.k_rest = k_zero - FLIP * (self.k.leaf.dtype == "uint8")
        self.v_rest = v_zero - FLIP * (self.v.leaf.dtype == "uint8")
        self.scale, self.step = float(call.attrs["scale"]), float(call.attrs["step"])
        self.levels = int(call.attrs["levels"])
        self.signed = self.q.leaf.dtype == "int8"
        self.width = int(self.q.size)
        self.panels = -(-int(self.v.size) // self.lanes)  # of values
        self.columns = (self.panels + (self.v_rest != 0)) * self.lanes
        length = self.q.length
        self.rows = min(BLOCK, length) if isinstance(length, int) else BLOCK
        self.together = min(TOGETHER, self.rows)
        heads = product([d for d in (self.q.batch, self.q.heads) if isinstance(d, int)])
        self.blocks = simplify((length + (BLOCK - 1)) // BLOCK)
        parts = -(-FEW_HEADS // int(heads))
        self.parts = min(parts, self.blocks) if isinstance(self.blocks, int) else parts
        self.lean = bool(call.attrs.get("lean", 0))
        if self.lean:
            self.parts = 1
        by_row = mask is not None and mask.ndim > 1 and not same_dim(mask.shape[-2], 1)
        self.by_row = by_row
        self.natural = not is_x86(target)

    def stage(self) -> Stage:
        """The kernel."""
        kinds = "".join("s8" if side.leaf.dtype == "int8" else "u8" for side in (self.q, self.k, self.v))
        b = self.b = Builder(f"attention_{kinds}_{self.rows}_d{self.width}_{self.target.isa}")
        amx = AmxProducts.takes(self.target, self.width, self.signed)
        with b:
            for side in (self.q, self.k, self.v):
                side.arg(b)
            self.out = b.arg(self.call.result)
            self._value: tirx.Expr | None = None
            b.bind(self.call.outputs[0], lambda *i: self._value)
            extents = [self.q.batch, self.q.heads, self.parts]
            self.s = self._scratch(1 if self.lean else product(extents))
            length = self.q.length
            # fewer queries than a block: fewer rows
            self.height = self.rows if isinstance(length, int) else b.let(tirx.min(length, _int(BLOCK)))
            self.products = (AmxProducts if amx else DotProducts)(self)
            self.products.begin()
            with b.serial(product(extents), "head") if self.lean else b.parallel(product(extents)) as task:
                self.task = _int(0) if self.lean else task
                self.n, self.h, part = unravel(b, task, extents)
                pack_keys(self)
                pack_values(self)
                if not self.by_row:
                    read_bias(self, _int(0), 0)
                each = simplify((self.blocks + (self.parts - 1)) // self.parts)
                start = b.let(part * each)
                count = each
                if not (isinstance(self.blocks, int) and self.blocks % self.parts == 0):
                    count = b.let(tirx.max(tirx.min(as_expr(each, "int64"), self.blocks - start), _int(0)))
                with b.serial(count, "block") as block:
                    self._block(start + block)
            self.products.end()
        return b.stage()

    def _scratch(self, tasks: Index) -> Scratch:
        b, lanes, group = self.b, self.lanes, self.group
        padded = simplify((self.k.length + (group - 1)) // group * group)
        quads, rows = -(-self.width // QUAD), -(-self.rows // self.together) * self.together

        def temp(dtype: str, name: str, *shape: Index) -> tirx.Var:
            return b.arg(Temp((tasks, *(simplify(s) for s in shape)), dtype, name))

        return Scratch(
            padded,
            temp("int32", "keys", padded // lanes + 1, quads, lanes),
            temp("int32", "values", self.columns // lanes, padded // QUAD, lanes),
            temp("int32", "offsets", padded),
            temp("float32", "bias", self.together if self.by_row else 1, padded),
            temp("int32", "scores", rows, padded + lanes), temp("uint8", "codes", rows, padded),
            temp("int32", "context", rows, self.columns),
        )  # fmt: skip

    def slot(self, place: tirx.Expr) -> tirx.Expr:
        """The quad of keys whose codes stand in quad `place`: packs work in 128 bits (see attention_rows)."""
        if self.natural:
            return place
        parts, whole = self.lanes // QUAD, tirx.const(self.lanes, "int64")
        first, within = self.b.let(place - tirx.truncmod(place, whole)), self.b.let(tirx.truncmod(place, whole))
        return first + tirx.truncmod(within, _int(QUAD)) * parts + tirx.truncdiv(within, _int(QUAD))

    def _block(self, block: tirx.Expr) -> None:
        """Up to 16 queries. The last block starts early, so that it is whole, and stores some results again."""
        b, length = self.b, self.q.length
        if isinstance(length, int) and length % self.rows == 0:
            first = b.let(block * self.rows, "first")
        else:
            last = as_expr(length, "int64") - as_expr(self.height, "int64")
            first = b.let(tirx.min(block * BLOCK, last), "first")
        self.products.scores(first)
        turns = simplify((self.height + (self.together - 1)) // self.together)
        with b.serial(turns, "rows") as turn:
            rows = [b.let(as_expr(turn, "int64") * self.together + i, "row") for i in range(self.together)]
            for i, row in enumerate(rows if self.by_row else ()):
                read_bias(self, tirx.min(first + row, as_expr(length, "int64") - 1), i)
            softmax_rows(self, rows)
        self.products.context()
        with b.serial(self.height, "row") as row:
            self._finish(as_expr(row, "int64"), first)

    def _finish(self, row: tirx.Expr, first: tirx.Expr) -> None:
        """A row of sums through the tail."""
        b, lanes, size = self.b, self.lanes, int(self.v.size)
        s = b.let(first + row)
        for panel in range(self.panels):
            with b.vector(min(lanes, size - panel * lanes)) as v:
                total = self.s.context[self.task, row, panel * lanes + v]
                if self.v_rest:
                    ones = self.s.context[self.task, row, self.panels * lanes + v]
                    total = total - ones * tirx.const(self.v_rest, "int32")
                self._value = total
                column = as_expr(v, "int64") + panel * lanes
                if len(self.call.outputs[0].shape) == 3:
                    place = [self.n, s, as_expr(self.h, "int64") * size + column]
                else:
                    place = [self.n, s, self.h, column] if self.q.third else [self.n, self.h, s, column]
                indices = [as_expr(i) for i in place]
                b.share(indices, self.call.outputs[0].shape)
                b.store(self.out, indices, self.call.final(*indices))


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
