"""Small helpers that handlers share: types to accumulate in, conditions, index arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, simplify

from .registry import Unsupported

HALF = ("float16", "bfloat16")
FLOATS = ("float16", "bfloat16", "float32", "float64")


def wide(dtype: str) -> str:
    """The type to compute in: float32 for the half precisions, else the type itself."""
    return "float32" if dtype in HALF else dtype


def need_float(dtype: str, op: str) -> str:
    """`dtype`, if it is one of the floating-point types that kernels compute with. Raises Unsupported otherwise."""
    if dtype not in FLOATS:
        raise Unsupported(f"{op} on {dtype}", f"{op} on float32")
    return dtype


def cast(t: Tensor, dtype: str) -> Tensor:
    """`t` converted element by element; `t` itself when it has that type."""
    if t.dtype == dtype:
        return t
    return compute(t.shape, dtype, lambda *i: t(*i).astype(dtype), [t], "cast")


def stored(
    shape: Sequence[Index], dtype: str, fn: Callable[..., tirx.Expr], inputs: Sequence[Tensor], name: str
) -> Tensor:
    """A map whose elements are worked out once and kept in a buffer: a reduction over one element."""
    return reduce(shape, dtype, [1], "sum", lambda i, _: fn(*i), inputs, None, name)


def floordiv(a: Index, b: Index) -> Index:
    """The floor of a/b for numbers and expressions alike."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return simplify(tirx.floordiv(as_expr(a), as_expr(b)))


def floormod(a: Index, b: Index) -> Index:
    """a - b * floor(a/b) for numbers and expressions alike."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return simplify(tirx.floormod(as_expr(a), as_expr(b)))


def ceildiv(a: Index, b: int) -> Index:
    """a/b rounded up."""
    return floordiv(a + (b - 1), b)


def smallest(a: Index, b: Index) -> Index:
    """The smaller of two numbers or expressions."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.min(as_expr(a), as_expr(b))


def largest(a: Index, b: Index) -> Index:
    """The larger of two numbers or expressions."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.max(as_expr(a), as_expr(b))


def clamp(value: Index, low: Index, high: Index) -> Index:
    """`value` brought into [low, high]."""
    return smallest(largest(value, low), high)


def both(conditions: Sequence[tirx.Expr | bool]) -> tirx.Expr:
    """All of the conditions; those known to hold are left out."""
    open_ = [c for c in conditions if not (isinstance(c, bool) and c)]
    if not open_:
        return tirx.const(True, "bool")
    result = as_expr(open_[0])
    for c in open_[1:]:
        result = tirx.all(result, as_expr(c))
    return result


def number(dim: Index, what: str) -> int:
    """A dimension that must be a number. Raises Unsupported for a symbolic one."""
    if not isinstance(dim, int):
        raise Unsupported(f"{what} is symbolic", f"a fixed {what} (--shape)")
    return dim


def equal(a: Index, b: Index, dtype: str | None = None) -> tirx.Expr:
    """a == b as an expression (the operator gives a thing of Python's that is not yet one)."""
    a, b = as_expr(a, dtype), as_expr(b, dtype)
    return tirx.EQ(a, b if str(a.ty.dtype) == str(b.ty.dtype) else b.astype(str(a.ty.dtype)))


def int64(value: Index) -> tirx.Expr:
    """`value` as an int64 expression."""
    return as_expr(value, "int64")


def only(t: Tensor) -> tirx.Expr:
    """The element of a tensor that holds one."""
    return t(*[as_expr(0)] * t.ndim)


def dim_leaf(var: tirx.Expr) -> Tensor:
    """The slot of a dimension made with `node.fresh`, as a leaf that a kernel stores the actual extent to."""
    return Tensor((1,), "int64", f"dim:{var.name}")
