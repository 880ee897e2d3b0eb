"""Integer products in their generic form: MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv. Sums are int32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, same_dim

from . import mathfn as fn
from .matmul import product_of
from .numbers import floordiv, number
from .quantize import SCALES, requantize, rounded
from .registry import Node, Unsupported, op
from .window import Window, window

Reader = Callable[..., tirx.Expr]
BYTES = ("int8", "uint8")


def single(t: Tensor, what: str) -> Reader:
    """A reader of the one number in `t`, wherever it is asked. Raises Unsupported for more of them."""
    if any(not same_dim(d, 1) for d in t.shape):
        raise Unsupported(f"{what} of shape {t.shape}", f"one {what}")
    return lambda *i: t(*[as_expr(0)] * t.ndim)


def along(t: Tensor, shape: Sequence[Index], axis: int, what: str) -> Reader:
    """A reader at indices of `shape` of one number, or of one for each position along `axis`.

    The latter as a list, or (of matrices) in the rank of `shape` with the other matrix axis of size 1.
    """
    if all(same_dim(d, 1) for d in t.shape):
        return single(t, what)
    rank = len(shape)
    if t.ndim == 1 and same_dim(t.shape[0], shape[axis]):
        return lambda *i: t(i[axis])
    other = 2 * rank - 3 - axis  # of the last two axes the one that is not `axis`
    full = [1 if a == other else d for a, d in enumerate(shape)]
    if t.ndim == rank >= 2 and axis >= rank - 2 and all(same_dim(d, e) for d, e in zip(t.shape, full, strict=True)):
        return lambda *i: t(*[as_expr(0) if a == other else k for a, k in enumerate(i)])
    raise Unsupported(f"{what} of shape {t.shape} for {tuple(shape)}", "one number, or one for each row or column")


def centred(x: Tensor, zero: Tensor | None, axis: int, what: str) -> Tensor:
    """x - zero as int32; `axis`: along which there may be several zero points."""
    if x.dtype not in BYTES or (zero is not None and zero.dtype != x.dtype):
        kinds = x.dtype if zero is None else f"{x.dtype} with a zero point of {zero.dtype}"
        raise Unsupported(f"{what} of {kinds}", "int8 or uint8, the zero point alike")
    if zero is None:
        return compute(x.shape, "int32", lambda *i: x(*i).astype("int32"), [x], what)
    offset = along(zero, x.shape, axis, f"{what}'s zero point")
    return compute(x.shape, "int32", lambda *i: x(*i).astype("int32") - offset(*i).astype("int32"), [x, zero], what)


def quantized(node: Node, total: Tensor, scales: Sequence[tuple[Tensor, Reader]], zero: Tensor) -> Tensor:
    """int32 sums as zero's type: saturate(round(total * (a * b / y)) + zero) for scales a, b, y of one type.

    The factor is rounded to that type at each step, as numpy does.
    """
    kinds = {t.dtype for t, _ in scales}
    if len(kinds) != 1 or not kinds <= set(SCALES) or zero.dtype not in BYTES:
        raise Unsupported(f"{zero.dtype} from scales of {sorted(kinds)}", "int8 or uint8 from scales of float32")
    (kind,) = kinds
    offset = single(zero, "output zero point")

    def of(*i: Index) -> tirx.Expr:
        a, b, y = (read(*i).astype("float32") for _, read in scales)
        factor = rounded(rounded(a * b, kind) / y, kind)
        return requantize(total(*i).astype("float32") * factor, offset(), zero.dtype)

    return compute(total.shape, zero.dtype, of, [total, *(t for t, _ in scales), zero], node.op.lower())


@op("MatMulInteger", since=10)
def matmul_integer(node: Node) -> Tensor:
    """(A - a_zero_point) (B - b_zero_point) in int32; zero points of A by row, of B by column."""
    a, b = node.need(0), node.need(1)
    return product_of(centred(a, node.input(2), max(a.ndim - 2, 0), "A"), centred(b, node.input(3), b.ndim - 1, "B"))


@op("QLinearMatMul", since=10)
def qlinear_matmul(node: Node) -> Tensor:
    """MatMulInteger, then quantized with a_scale * b_scale / y_scale and y_zero_point."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (node.need(i) for i in range(8))
    total = product_of(centred(a, a_zero, max(a.ndim - 2, 0), "A"), centred(b, b_zero, b.ndim - 1, "B"))
    if a.ndim < 2 or b.ndim < 2:
        readers = [single(a_scale, "a_scale"), single(b_scale, "b_scale")]
    else:
        rows, columns = total.ndim - 2, total.ndim - 1
        readers = [along(a_scale, total.shape, rows, "a_scale"), along(b_scale, total.shape, columns, "b_scale")]
    scales = zip((a_scale, b_scale, y_scale), (*readers, single(y_scale, "y_scale")), strict=True)
    return quantized(node, total, list(scales), y_zero)


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, win: Window, group: int) -> Tensor:
    """Sums in int32 of x [N, C, *spatial] and w [O, C/group, *kernel], both int32; the padding adds nothing."""
    c, o, depth = number(x.shape[1], "channels"), number(w.shape[0], "channels"), number(w.shape[1], "channels")
    if c != depth * group or o % group:
        raise Unsupported(f"{c} channels to {o} in {group} groups with weights for {depth}")
    if bias is not None and bias.dtype != "int32":
        raise Unsupported(f"a bias of {bias.dtype}", "int32")

    def body(i: tuple, r: tuple) -> tirx.Expr:
        position = win.position(i[2:], r[1:])
        source = r[0] if group == 1 else floordiv(i[1], o // group) * depth + r[0]
        inside = win.inside(position)
        value = x(i[0], source, *position)
        if not isinstance(inside, tirx.IntImm):
            value = tirx.if_then_else(inside, value, tirx.const(0, "int32"))
        return value * w(i[1], *r)

    finish = None if bias is None else lambda v, *i: fn.add(v, bias(i[1]))
    used = [x, w] if bias is None else [x, w, bias]
    return reduce((x.shape[0], o, *win.out), "int32", (depth, *win.kernel), "sum", body, used, finish, "conv_integer")


def _sums(
    node: Node, x: Tensor, x_zero: Tensor | None, w: Tensor, w_zero: Tensor | None, bias: Tensor | None
) -> Tensor:
    if x_zero is not None:
        single(x_zero, "x's zero point")
    win = window(node, x.shape[2:], [number(k, "kernel") for k in w.shape[2:]])
    return convolve(centred(x, x_zero, 1, "x"), centred(w, w_zero, 0, "w"), bias, win, int(node.attr("group", 1)))


@op("ConvInteger", since=10)
def conv_integer(node: Node) -> Tensor:
    """A convolution in int32 of x - x_zero_point and w - w_zero_point; the latter also by output channel."""
    return _sums(node, node.need(0), node.input(2), node.need(1), node.input(3), None)


@op("QLinearConv", since=10)
def qlinear_conv(node: Node) -> Tensor:
    """ConvInteger with an int32 bias, quantized with x_scale * w_scale / y_scale and y_zero_point."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (node.need(i) for i in range(8))
    total = _sums(node, x, x_zero, w, w_zero, node.input(8))
    readers = single(x_scale, "x_scale"), along(w_scale, total.shape, 1, "w_scale"), single(y_scale, "y_scale")
    return quantized(node, total, list(zip((x_scale, w_scale, y_scale), readers, strict=True)), y_zero)


@op("MatMulInteger", domain="edgert")
def batched(node: Node) -> Tensor:
    """(A - a_zero) (B - b_zero) in int32, of two values known at run time; transA, transB: in their last two axes."""
    sides = []
    for i, name in enumerate(("a", "b")):
        t, zero = node.need(i), tirx.const(int(node.attr(f"{name}_zero", 0)), "int32")
        if t.dtype not in BYTES:
            raise Unsupported(f"{name} of {t.dtype}", "int8 or uint8")
        read = lambda *i, t=t, zero=zero: t(*i).astype("int32") - zero  # noqa: E731
        sides.append(compute(t.shape, "int32", read, [t], name))
    return product_of(sides[0], sides[1], bool(node.attr("transA", 0)), bool(node.attr("transB", 0)))
