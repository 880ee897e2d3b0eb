"""The compiler's own integer operators: raw sums of byte products in int32, and what takes them to bytes or floats.

compiler/passes/integer.py makes them of QuantizeLinear / DequantizeLinear around float operators. Zero points are no
part of the sums: sum((x - zx) * w) = sum(x * w) - zx * sum(w), and the last is a constant that goes into the bias.
"""

from __future__ import annotations

from tvm import tirx

from targets.kernels.fixed_requantize import requantize_fixed
from targets.kernels.requantize import per_channel
from targets.kernels.requantize import requantize as requantized
from targets.kernels.rounding import fma, to_integer
from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, same_dim

from . import mathfn as fn
from .elementwise import map_broadcast
from .numbers import floordiv, number
from .pool import window_2d
from .registry import Node, Unsupported, op
from .window import window

BYTES = ("int8", "uint8")


def _bytes(t: Tensor, what: str) -> Tensor:
    if t.dtype not in BYTES:
        raise Unsupported(f"{what} of {t.dtype}", "int8 or uint8")
    return t


@op("GemmInteger", domain="edgert")
def gemm_integer(node: Node) -> Tensor:
    """a [..., M, K] times constant b [K, N] (transB: [N, K]), bytes, summed in int32."""
    a, b = _bytes(node.need(0), "a"), _bytes(node.need(1), "b")
    swapped = bool(node.attr("transB", 0))
    depth, cols = b.shape[::-1] if swapped else b.shape
    if not same_dim(a.shape[-1], depth):
        raise Unsupported(f"a product over {a.shape[-1]} and {depth} elements")

    def body(i: tuple, r: tuple) -> tirx.Expr:
        at = (i[-1], r[0]) if swapped else (r[0], i[-1])
        return a(*i[:-1], r[0]).astype("int32") * b(*at).astype("int32")

    return reduce((*a.shape[:-1], cols), "int32", (depth,), "sum", body, [a, b], name="gemm_integer")


@op("Conv2dInteger", domain="edgert")
def conv2d_integer(node: Node) -> Tensor:
    """x [N, H, W, C], constant w [O, C/group, kH, kW], zero (what pads hold), bytes -> int32 [N, OH, OW, O]."""
    x, w, zero = _bytes(node.need(0), "x"), _bytes(node.need(1), "w"), node.need(2)
    group = int(node.attr("group", 1))
    win = window(node, x.shape[1:3], [number(k, "kernel") for k in w.shape[2:]])
    out, depth = number(w.shape[0], "channels"), number(w.shape[1], "channels")
    per = out // group

    def body(i: tuple, r: tuple) -> tirx.Expr:
        position = win.position(i[1:3], r[1:])
        source = r[0] if group == 1 else floordiv(i[3], per) * depth + r[0]
        inside = win.inside(position)
        value = x(i[0], *position, source).astype("int32")
        if not isinstance(inside, tirx.IntImm):
            value = tirx.if_then_else(inside, value, zero(*[as_expr(0)] * zero.ndim).astype("int32"))
        return value * w(i[3], *r).astype("int32")

    shape = (x.shape[0], *win.out, out)
    return reduce(shape, "int32", (depth, *win.kernel), "sum", body, [x, w, zero], name="conv2d_integer")


@op("SumPool2d", domain="edgert")
def sum_pool2d(node: Node) -> Tensor:
    """The sums over windows of bytes [N, H, W, C] in int32; windows that reach outside are refused."""
    x, win = _bytes(node.need(0), "x"), window_2d(node)
    if any(p != 0 for p in (*win.before, *win.after)):
        raise Unsupported("a sum over windows with padding", "no padding")

    def body(i: tuple, r: tuple) -> tirx.Expr:
        return x(i[0], *win.position(i[1:3], r), i[3]).astype("int32")

    shape = (x.shape[0], *win.out, x.shape[3])
    return reduce(shape, "int32", win.kernel, "sum", body, [x], name="sum_pool")


@op("Requantize", kind="elementwise", domain="edgert")
def requantize(node: Node) -> Tensor:
    """clamp(round_half_to_even(float32(acc + bias) * multiplier) + zero, low, high) as attribute `to`.

    acc: int32 [..., C]; bias int32 [C]; multiplier float32 [C] or [1] (x_scale * w_scale / y_scale); zero, low and high
    are attributes. The arithmetic of ONNX Runtime's QLinearConv and QLinearMatMul.
    """
    zero, low, high = (int(node.attr(name)) for name in ("zero", "low", "high"))
    return requantized(node.need(0), node.need(1), node.need(2), zero, low, high, node.attr("to"))


@op("RequantizeFixed", kind="elementwise", domain="edgert")
def requantize_in_integers(node: Node) -> Tensor:
    """As Requantize, with the same bits, by integers but for a few: `factors` int32 [C] or [1] ahead of the multiplier,
    which is left out where they say it as well.
    """
    how, bounds = (
        [int(node.attr(n)) for n in names] for names in (("shift", "bits", "doubt"), ("zero", "low", "high"))
    )
    leaves = node.need(0), node.need(1), node.need(2), node.input(3)
    return requantize_fixed(*leaves, tuple(how), tuple(bounds), node.attr("to"))  # type: ignore[arg-type]


@op("Rescale", kind="elementwise", domain="edgert")
def rescale(node: Node) -> Tensor:
    """float32(acc + bias) * scale: what int32 sums stand for; bias int32 [C], scale float32 [C] or [1]."""
    acc, bias, scale = node.need(0), node.need(1), node.need(2)

    def of(*i: Index) -> tirx.Expr:
        total = fn.add(acc(*i), per_channel(bias, acc, i))
        return total.astype("float32") * per_channel(scale, acc, i)

    return compute(acc.shape, "float32", of, [acc, bias, scale], "rescale")


@op("AddQuantized", kind="elementwise", domain="edgert")
def add_quantized(node: Node) -> Tensor:
    """clamp(round_half_to_even(a * ratios[0] + (b * ratios[1] + fixed)), low, high) as attribute `to`.

    a and b: bytes; each step fused, as in ONNX Runtime's QLinearAdd.
    """
    ratios = [as_expr(float(r), "float32") for r in node.attr("ratios")]
    fixed, (low, high) = as_expr(float(node.attr("fixed")), "float32"), (int(node.attr(n)) for n in ("low", "high"))

    def of(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        inner = fma(b.astype("int32").astype("float32"), ratios[1], fixed)
        return to_integer(fma(a.astype("int32").astype("float32"), ratios[0], inner), 0, low, high, node.attr("to"))

    return map_broadcast([node.need(0), node.need(1)], node.attr("to"), of, "add_quantized")
