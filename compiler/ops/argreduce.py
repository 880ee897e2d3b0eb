"""Where the largest or smallest element is: ArgMax, ArgMin, Hardmax."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, product, reduce
from targets.kernels.vmath import let

from . import mathfn as fn
from .registry import Node, Unsupported, op
from .shapes import axis_of, reshaped


def key_type(dtype: str) -> str:
    """The integer type of `sort_key`."""
    if fn.is_float(dtype):
        return "int64" if dtype == "float64" else "int32"
    return "int32" if fn.bits_of(dtype) < 32 else dtype


def sort_key(x: tirx.Expr, nan_first: bool = False) -> tirx.Expr:
    """An integer that orders as x does. -0 and 0 are equal; NaNs are above everything, or below (nan_first)."""
    dtype = fn.dtype_of(x)
    if not fn.is_float(dtype):
        return x.astype(key_type(dtype))
    x = x.astype("float32") if dtype in fn.NARROW else x
    kind = key_type(dtype)
    most = (1 << (fn.bits_of(kind) - 1)) - 1

    def of(v: tirx.Expr, bits: tirx.Expr) -> tirx.Expr:
        # the magnitudes of negative numbers count downwards
        key = fn.select(bits < fn.const(0, kind), fn.const(0, kind) - (bits & fn.const(most, kind)), bits)
        return fn.select(fn.is_nan(v), fn.const(-most if nan_first else most, kind), key)

    return let(x, lambda v: let(tirx.reinterpret(kind, v), lambda bits: of(v, bits)))


def position(x: Tensor, axis: int, largest: bool, last: bool) -> Tensor:
    """The first (or last) place along `axis` of the largest (or smallest) element; `axis` stays with size 1.

    NaNs win, as in numpy. int32 unless the axis may be too long.
    """
    if x.ndim == 0:
        return compute((), "int32", lambda: as_expr(0, "int32"), [], "position")
    size = x.shape[axis]
    index_type = "int32" if isinstance(size, int) and size < 1 << 31 else "int64"
    if isinstance(size, int) and size == 0:
        raise Unsupported("an axis without elements", "an axis with at least one element")
    kept = [1 if a == axis else d for a, d in enumerate(x.shape)]
    kind = key_type(x.dtype)

    def at(i: tuple, k: Index) -> tuple:
        return (*i[:axis], k, *i[axis + 1 :])

    best = reduce(
        kept, kind, [size], "max" if largest else "min",
        lambda i, r: sort_key(x(*at(i, r[0])), not largest), [x], name="best",
    )  # fmt: skip
    none = as_expr(-1 if last else (1 << (fn.bits_of(index_type) - 1)) - 1, index_type)

    def place(i: tuple, r: tuple) -> tirx.Expr:
        same = tirx.EQ(sort_key(x(*at(i, r[0])), not largest), best(*at(i, as_expr(0))))
        return fn.select(same, as_expr(r[0], index_type), none)

    return reduce(kept, index_type, [size], "max" if last else "min", place, [x, best], name="position")


@op("ArgMax", "ArgMin", since=1)
def arg_max(node: Node) -> Tensor:
    """The index as int64; of equal elements the first, or the last with select_last_index."""
    x = node.need(0)
    axis = axis_of(int(node.attr("axis", 0)), x.ndim)
    found = position(x, axis, node.op == "ArgMax", bool(node.attr("select_last_index", 0)))
    if node.attr("keepdims", 1) or x.ndim == 0:
        return compute(found.shape, "int64", lambda *i: found(*i).astype("int64"), [found], "arg")
    shape = [d for a, d in enumerate(x.shape) if a != axis]
    return compute(
        shape, "int64", lambda *i: found(*i[:axis], as_expr(0), *i[axis:]).astype("int64"), [found], "arg"
    )  # fmt: skip


def one_at(x: Tensor, axis: int) -> Tensor:
    """1 where the first largest element along `axis` is, else 0."""
    found = position(x, axis, True, False)

    def of(*i: Index) -> tirx.Expr:
        place = found(*i[:axis], as_expr(0), *i[axis + 1 :]) if i else as_expr(0, "int32")
        here = as_expr(i[axis] if i else 0, found.dtype)
        return fn.select(tirx.EQ(place, here), fn.const(1, x.dtype), fn.const(0, x.dtype))

    return compute(x.shape, x.dtype, of, [found], "hardmax")


@op("Hardmax", since=13)
def hardmax(node: Node) -> Tensor:
    """1 at the first largest element along the axis."""
    x = node.need(0)
    return one_at(x, axis_of(int(node.attr("axis", -1)), x.ndim))


@op("Hardmax", since=1)
def hardmax_flat(node: Node) -> Tensor:
    """Before opset 13 the axes from `axis` on count as one."""
    x = node.need(0)
    axis = int(node.attr("axis", 1))
    axis = axis if axis == x.ndim else axis_of(axis, x.ndim)
    flat = reshaped(x, [product(x.shape[:axis]), product(x.shape[axis:])])
    return reshaped(one_at(flat, 1), x.shape, "hardmax")
