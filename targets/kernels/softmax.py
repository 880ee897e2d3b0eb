"""Softmax and LogSoftmax along the last axis: maximum, exponentials and their sum, then the results."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from . import vmath
from .builder import Builder
from .loops import span
from .registry import Call, template
from .row_tail import Rows, fits, normal_axis
from .rows import reduce_row
from .stage import Stage


@template("Softmax")
def softmax(call: Call, target: Target) -> list[Stage] | None:
    """Rows along the last axis (attr axis); another axis is left to the nest."""
    return _softmax(call, target, False)


@template("LogSoftmax")
def log_softmax(call: Call, target: Target) -> list[Stage] | None:
    """The logarithm of Softmax without a detour through small numbers."""
    return _softmax(call, target, True)


def _softmax(call: Call, target: Target, log: bool) -> list[Stage] | None:
    axis = normal_axis(call)
    if axis != len(call.outputs[0].shape) - 1 or not fits(call, axis):
        return None
    b = Builder(f"{call.op.lower()}_rows_{call.outputs[0].dtype}_{target.name}")
    with b:
        rows = Rows(b, call, axis)
        n, dtype, lanes = rows.length, rows.dtype, target.lanes(rows.dtype)
        # the exponentials wait in the output until the sum is known, where the output can hold them
        keep = not log and call.final is call.outputs[0] and call.result.dtype == dtype
        with rows.each() as row:
            top = reduce_row(b, "max", dtype, lanes, n, lambda k: rows.load(row, k))

            def exponential(k: tirx.Expr) -> tirx.Expr:
                e = b.let(vmath.exp_flush(rows.load(row, k) - top), "e")
                if keep:
                    b.store(rows.out, rows.at(row, k), e)
                return e

            total = reduce_row(b, "sum", dtype, lanes, n, exponential)
            if log:
                shift = b.let(top + vmath.log(total), "shift")
                span(b, n, lanes, lambda k: rows.store(row, k, rows.load(row, k) - shift))
            else:
                scale = b.let(tirx.const(1, dtype) / total, "scale")

                def scaled(k: tirx.Expr) -> tirx.Expr:
                    if keep:
                        return rows.out[tuple(rows.at(row, k))] * scale
                    return vmath.exp_flush(rows.load(row, k) - top) * scale

                span(b, n, lanes, lambda k: rows.store(row, k, scaled(k)))
    return [b.stage()]
