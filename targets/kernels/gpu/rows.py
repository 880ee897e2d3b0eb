"""Softmax and normalisations: a group of work items shares each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from .. import vmath
from ..registry import Call, template
from ..row_tail import Rows, fits, normal_axis
from ..rows import cleared, combine, fold
from ..stage import Stage
from ..tensor import Index, Tensor, as_expr, product, same_dim
from .grid import Grid, place_of


@template("Softmax", "gpu")
def softmax(call: Call, target: Target) -> list[Stage] | None:
    """Along the last axis (attr axis); another one is left to the nest."""
    return _softmax(call, target, False)


@template("LogSoftmax", "gpu")
def log_softmax(call: Call, target: Target) -> list[Stage] | None:
    """The logarithm of Softmax without a detour through small numbers."""
    return _softmax(call, target, True)


@template("LayerNormalization", "gpu")
def layer_norm(call: Call, target: Target) -> list[Stage] | None:
    """(x - mean) / sqrt(var + epsilon) * scale + bias along the last axis. Inputs X, Scale, B?."""
    return _norm(call, target, True)


@template("RMSNormalization", "gpu")
def rms_norm(call: Call, target: Target) -> list[Stage] | None:
    """x / sqrt(mean(x^2) + epsilon) * scale along the last axis. Inputs X, Scale."""
    return _norm(call, target, False)


class Shared:
    """One row a group: item `lane` takes every element whose number has that remainder."""

    def __init__(self, b: Grid, outer: Sequence[Index], length: Index, dtype: str) -> None:
        """outer: the sizes that rows are counted by; dtype: what is computed in."""
        self.b, self.outer, self.n, self.dtype, self.width = b, outer, length, dtype, b.workgroup

    @contextmanager
    def each(self) -> Iterator[list[tirx.Expr]]:
        """A group for each row."""
        with self.b.groups(product(self.outer)) as (group, self.lane):
            self.scratch = self.b.shared(self.width, self.dtype)
            yield place_of(group, self.outer)

    @contextmanager
    def elements(self) -> Iterator[tirx.Expr]:
        """This item's elements of the row."""
        left = as_expr(self.n, str(self.lane.ty.dtype)) - self.lane
        with self.b.serial((left + (self.width - 1)) // self.width, "j") as j:
            yield self.b.let(j * self.width + self.lane)

    def reduce(self, kind: str, value: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
        """The reduction of `value(k)` over the row, known to every item."""
        b, scratch, lane = self.b, self.scratch, self.lane
        acc = cleared(b, kind, self.dtype, 1)
        with self.elements() as k:
            fold(b, kind, acc, 0, value(k))
        b.store(scratch, lane, acc[0])
        b.barrier()
        step = self.width // 2
        while step:
            with b.when(lane < step):
                b.store(scratch, lane, combine(kind, b.let(scratch[lane]), b.let(scratch[lane + step])))
            b.barrier()
            step //= 2
        whole = b.local((1,), self.dtype)
        b.store(whole, 0, scratch[0])
        b.barrier()  # before the next reduction writes there
        return whole[0]


def _softmax(call: Call, target: Target, log: bool) -> list[Stage] | None:
    axis = normal_axis(call)
    assert isinstance(target, Gpu)
    if axis != len(call.outputs[0].shape) - 1 or not fits(call, axis):
        return None
    b = Grid(f"{call.op.lower()}_rows_{call.outputs[0].dtype}", target)
    with b:
        rows = Rows(b, call, axis)
        shared = Shared(b, rows.outer, rows.length, rows.dtype)
        with shared.each() as row:
            top = shared.reduce("max", lambda k: rows.load(row, k))
            total = shared.reduce("sum", lambda k: vmath.exp_flush(rows.load(row, k) - top))
            with shared.elements() as k:
                away = rows.load(row, k) - top
                rows.store(row, k, away - vmath.log(total) if log else vmath.exp_flush(away) / total)
    return [b.stage()]


def _norm(call: Call, target: Target, centred: bool) -> list[Stage] | None:
    axis = normal_axis(call)
    x, scale = call.need(0), call.need(1)
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    assert isinstance(target, Gpu)
    if axis != x.ndim - 1 or not fits(call, axis) or not all(_is_row(t, x) for t in (scale, bias) if t is not None):
        return None
    b = Grid(f"{call.op.lower()}_rows_{x.dtype}", target)
    with b:
        rows = Rows(b, call, axis)
        shared = Shared(b, rows.outer, rows.length, rows.dtype)
        n = as_expr(shared.n).astype(shared.dtype)
        weight, offset = b.arg(scale), None if bias is None else b.arg(bias)
        with shared.each() as row:
            mean = b.let(shared.reduce("sum", lambda k: rows.load(row, k)) / n) if centred else None

            def moved(k: Index) -> tirx.Expr:
                return rows.load(row, k) if mean is None else rows.load(row, k) - mean

            def squared(k: Index) -> tirx.Expr:
                value = b.let(moved(k))
                return value * value

            epsilon = tirx.const(float(call.attrs.get("epsilon", 1e-5)), shared.dtype)
            factor = b.let(1.0 / tirx.sqrt(shared.reduce("sum", squared) / n + epsilon))
            with shared.elements() as k:
                value = moved(k) * factor * as_expr(weight[k], shared.dtype)
                rows.store(row, k, value if offset is None else value + as_expr(offset[k], shared.dtype))
    return [b.stage()]


def _is_row(t: Tensor, x: Tensor) -> bool:
    return t.ndim == 1 and same_dim(t.shape[0], x.shape[-1])
