"""Symbolic dimensions: one int64 variable a name, its bounds, and the largest value an expression can take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tvm import tirx
from tvm.ir import Range

from targets.kernels.tensor import ANALYZER, Index, extent, simplify
from targets.kernels.tensor import largest as largest

UNBOUNDED = 2**62  # above any size; what an expression without a known upper bound is taken for


@cache
def make_var(name: str, low: int, high: int) -> tirx.Var:
    """The int64 variable of that name within low..high, which the simplifier knows: max(seq, 1) becomes seq."""
    var = tirx.Var(name, "int64")
    ANALYZER.bind(var, Range(tirx.const(low, "int64"), tirx.const(high + 1, "int64")))
    return var


def smallest(value: Index) -> int:
    """A lower bound of `value` over the bounds of its variables."""
    return value if isinstance(value, int) else int(ANALYZER.const_int_bound(value).min_value)


def provable(condition: tirx.Expr | bool) -> bool | None:
    """True or False where `condition` is the same for all values of its variables, else None."""
    if isinstance(condition, bool):
        return condition
    result = ANALYZER.simplify(condition)
    if isinstance(result, tirx.IntImm):
        return bool(result.value)
    if ANALYZER.can_prove(result):
        return True
    return False if ANALYZER.can_prove(tirx.Not(result)) else None


def at_corner(value: Index, bounds: Mapping[str, tuple[int, int]], which: int) -> int:
    """`value` with every dim at its smallest (which=0) or largest (which=1)."""
    return extent(value, {name: pair[which] for name, pair in bounds.items()})


def dim_text(value: Index) -> str:
    """A dimension as people read it: `128`, `seq`, `seq*2`."""
    if isinstance(value, int):
        return str(value)
    text = str(simplify(value))
    while "T.int64(" in text:
        start = text.index("T.int64(")
        end = text.index(")", start)
        text = text[:start] + text[start + len("T.int64(") : end] + text[end + 1 :]
    return text.replace("T.", "")


def shape_text(shape: tuple[Index, ...]) -> str:
    """A shape as text: `1x3x224x224`, `scalar`."""
    return "x".join(dim_text(d) for d in shape) or "scalar"
