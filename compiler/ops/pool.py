"""Pooling: the largest, the mean, the p-norm of windows or of whole channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, product, reduce

from .numbers import cast, floordiv, floormod, need_float, number, wide
from .registry import Node, Unsupported, op
from .window import Window, window

Split = Callable[[Sequence[Index]], tuple[tuple[Index, ...], Sequence[Index], tuple[Index, ...]]]


def _first(i: Sequence[Index]) -> tuple:  # N, C, spatial
    return tuple(i[:2]), i[2:], ()


def _last(i: Sequence[Index]) -> tuple:  # N, spatial, C
    return tuple(i[:1]), i[1:-1], tuple(i[-1:])


def pooled(
    x: Tensor, win: Window, kind: str, dtype: str, outside: tirx.Expr, split: Split = _first,
    value: Callable[[tirx.Expr], tirx.Expr] = lambda v: v, finish: Callable | None = None, name: str = "pool",
) -> Tensor:  # fmt: skip
    """Each window of x combined by `kind`, with `outside` in the padding; `value` is applied to each element read."""

    def body(i: tuple, k: tuple) -> tirx.Expr:
        before, at, after = split(i)
        position = win.position(at, k)
        element = value(x(*before, *position, *after).astype(dtype))
        inside = win.inside(position)
        return element if isinstance(inside, tirx.IntImm) else tirx.if_then_else(inside, element, outside)

    before, _, after = split(x.shape)
    return reduce((*before, *win.out, *after), dtype, win.kernel, kind, body, [x], finish, name)


def averaged(x: Tensor, win: Window, padded: bool, split: Split = _first) -> Tensor:
    """The mean of each window, over the elements it covers in x (padded: or in its padding)."""
    acc = wide(need_float(x.dtype, "AveragePool"))

    def finish(total: tirx.Expr, *i: Index) -> tirx.Expr:
        count = win.covered(split(i)[1], padded)
        return total / (tirx.const(count, acc) if isinstance(count, int) else count.astype(acc))

    return cast(pooled(x, win, "sum", acc, tirx.const(0, acc), split, finish=finish, name="average_pool"), x.dtype)


def _kernel(node: Node) -> list[int]:
    return [int(k) for k in node.attr("kernel_shape")]


@op("MaxPool", since=1)
def max_pool(node: Node) -> list[Tensor | None]:
    """The largest of each window, and its flat index into X where wanted."""
    x = node.need(0)
    win = window(node, x.shape[2:], _kernel(node), bool(node.attr("ceil_mode", 0)))
    largest = pooled(x, win, "max", x.dtype, tirx.min_value(x.dtype), name="max_pool")
    if len(node.outputs) < 2 or not node.outputs[1]:
        return [largest]
    # an expression of its own: what is stored as the first output cannot be read by the second
    again = pooled(x, win, "max", x.dtype, tirx.min_value(x.dtype), name="max_pool")
    return [largest, _argmax(x, win, again, bool(node.attr("storage_order", 0)))]


def _argmax(x: Tensor, win: Window, largest: Tensor, column_major: bool) -> Tensor:
    """The flat index into x of the first element of each window that equals its maximum."""
    size = x.shape[2:]
    whole = product(size)
    none = tirx.max_value("int64")

    def body(i: tuple, k: tuple) -> tirx.Expr:
        at = win.position(i[2:], k)
        flat: Index = as_expr(0, "int64")
        for p, n in zip(at, size, strict=True):
            flat = flat * n + p
        v, best = x(i[0], i[1], *at), largest(*i)
        found = tirx.any(v == best, v != v)
        return tirx.if_then_else(tirx.all(win.inside(at), found), as_expr(flat, "int64"), none)

    def finish(flat: tirx.Expr, *i: Index) -> tirx.Expr:
        if column_major:
            at: list[Index] = []
            for n in reversed(size):
                at.insert(0, floormod(flat, n))
                flat = as_expr(floordiv(flat, n))
            flat = as_expr(0, "int64")
            for p, n in zip(reversed(at), reversed(size), strict=True):
                flat = flat * n + p
        return (i[0] * x.shape[1] + i[1]) * whole + flat

    return reduce(largest.shape, "int64", win.kernel, "min", body, [x, largest], finish, "max_pool_index")


@op("AveragePool", since=1)
def average_pool(node: Node) -> Tensor:
    """The mean of each window, over X or over X and its padding."""
    x = node.need(0)
    win = window(node, x.shape[2:], _kernel(node), bool(node.attr("ceil_mode", 0)))
    return averaged(x, win, bool(node.attr("count_include_pad", 0)))


@op("LpPool", since=2)
def lp_pool(node: Node) -> Tensor:
    """The p-norm of each window."""
    x = node.need(0)
    win = window(node, x.shape[2:], _kernel(node), bool(node.attr("ceil_mode", 0)))
    acc = wide(need_float(x.dtype, "LpPool"))
    power, root = lp(int(node.attr("p", 2)), acc)
    result = pooled(
        x, win, "sum", acc, tirx.const(0, acc), value=power, finish=lambda total, *_: root(total), name="lp_pool"
    )
    return cast(result, x.dtype)


def lp(p: int, dtype: str) -> tuple[Callable[[tirx.Expr], tirx.Expr], Callable[[tirx.Expr], tirx.Expr]]:
    """|x|^p, and the p-th root of a sum of those."""
    if p == 1:
        return tirx.abs, lambda total: total
    if p == 2:
        return lambda v: v * v, tirx.sqrt

    def power(v: tirx.Expr) -> tirx.Expr:
        result = v = tirx.abs(v)
        for _ in range(p - 1):
            result = result * v
        return result

    return power, lambda total: tirx.pow(total, tirx.const(1.0 / p, dtype))


def _whole(node: Node, kind: str, power: Callable | None = None, finish: Callable | None = None) -> Tensor:
    """Every spatial axis reduced to 1."""
    x = node.need(0)
    acc = wide(need_float(x.dtype, node.op)) if kind == "sum" else x.dtype

    def body(i: tuple, k: tuple) -> tirx.Expr:
        value = x(i[0], i[1], *k).astype(acc)
        return power(value) if power else value

    shape = (*x.shape[:2], *[1] * (x.ndim - 2))
    return cast(reduce(shape, acc, x.shape[2:], kind, body, [x], finish, node.op.lower()), x.dtype)


@op("GlobalAveragePool", since=1)
def global_average_pool(node: Node) -> Tensor:
    """[N, C, ...] -> [N, C, 1, ...], the mean."""
    x = node.need(0)
    count = as_expr(product(x.shape[2:]), "int64").astype(wide(x.dtype))
    return _whole(node, "sum", finish=lambda total, *_: total / count)


@op("GlobalMaxPool", since=1)
def global_max_pool(node: Node) -> Tensor:
    """[N, C, ...] -> [N, C, 1, ...], the largest."""
    return _whole(node, "max")


@op("GlobalLpPool", since=2)
def global_lp_pool(node: Node) -> Tensor:
    """[N, C, ...] -> [N, C, 1, ...], the p-norm."""
    power, root = lp(int(node.attr("p", 2)), wide(node.need(0).dtype))
    return _whole(node, "sum", power, lambda total, *_: root(total))


def window_2d(node: Node) -> Window:
    """Windows over [N, H, W, C]; their count is attribute `output_shape` where the pass has fixed it."""
    x = node.need(0)
    win = window(node, x.shape[1:3], _kernel(node), bool(node.attr("ceil_mode", 0)))
    wanted = node.attr("output_shape")
    if not wanted:
        return win
    return Window(win.size, win.kernel, win.stride, win.dilation, win.before, win.after, tuple(wanted))


@op("MaxPool2d", domain="edgert")
def max_pool2d(node: Node) -> Tensor:
    """[N, H, W, C] -> [N, OH, OW, C]."""
    x = node.need(0)
    return pooled(x, window_2d(node), "max", x.dtype, tirx.min_value(x.dtype), _last, name="max_pool")


@op("AveragePool2d", domain="edgert")
def average_pool2d(node: Node) -> Tensor:
    """[N, H, W, C] -> [N, OH, OW, C]."""
    return averaged(node.need(0), window_2d(node), bool(node.attr("count_include_pad", 0)), _last)


@op("GlobalAveragePool2d", domain="edgert")
def global_average_pool2d(node: Node) -> Tensor:
    """[N, H, W, C] -> [N, 1, 1, C]."""
    x = node.need(0)
    if x.ndim != 4:
        raise Unsupported("rank other than 4")
    acc = wide(need_float(x.dtype, node.op))
    count = as_expr(product(x.shape[1:3]), "int64").astype(acc)
    result = reduce(
        (x.shape[0], 1, 1, number(x.shape[3], "channels")), acc, x.shape[1:3], "sum",
        lambda i, k: x(i[0], k[0], k[1], i[3]).astype(acc), [x], lambda total, *_: total / count, "global_average_pool",
    )  # fmt: skip
    return cast(result, x.dtype)
