"""Weights as GGUF's types have them, which kernels keep as they are stored: products with them, and rows of them.

Shared by both operators. codes: uint8 [N, K] from 0 to 2^bits - 1. A weight is scale * code + minimum, or
scale * (code - zero) where there is no minimum, by blocks of `size` neighbours along K; scale and minimum are float
[N, K/size]. K-quants have factors of 256 neighbours, super_scale and super_minimum float [N, K/256]: there scale and
minimum are integers, a weight is super_scale * scale * code - super_minimum * minimum. Attributes: bits (4, 5, 6, 8),
size (16, 32), zero (a multiple of 8, 0 where there is a minimum).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.block_codes import BITS, STEP, SUPER
from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, same_dim

from .numbers import floordiv, number
from .quantize import SCALES
from .registry import Node, Unsupported, op


def _weight(node: Node, first: int) -> tuple[Callable[[Index, Index], tirx.Expr], list[Tensor], int, int]:
    """A reader (n, k) -> float32 of the weights in inputs `first` (the codes) and `first + 1` on; those; N and K."""
    codes, scale, minimum = node.inputs[first], node.need(first + 1), node.input(first + 2)
    super_scale, super_minimum = node.input(first + 3), node.input(first + 4)
    bits, size, zero = int(node.attr("bits")), int(node.attr("size")), int(node.attr("zero", 0))
    if codes is None or codes.dtype != "uint8" or codes.ndim != 2 or bits not in BITS or size not in (16, STEP):
        raise Unsupported("these codes", "uint8 [N, K] of 4, 5, 6 or 8 bits in blocks of 16 or 32")
    if zero % 8 or (zero and minimum is not None):
        raise Unsupported(f"a zero point of {zero}", "a multiple of 8, and 0 where there is a minimum")
    cols, depth = (number(d, "weights") for d in codes.shape)
    plain = super_scale is None
    wide = SUPER if not plain else STEP
    if depth % wide or (minimum is not None and plain is not (super_minimum is None)):
        raise Unsupported(f"{depth} weights in a row", f"whole blocks of {wide}")
    kinds = SCALES if plain else ("int8", "uint8")
    if any(t is not None and t.dtype not in kinds for t in (scale, minimum)):
        raise Unsupported(f"a scale of {scale.dtype}", " or ".join(kinds))

    def factor(t: Tensor, more: Tensor | None, n: Index, k: Index) -> tirx.Expr:
        value = t(n, floordiv(k, size)).astype("float32")
        return value if more is None else more(n, floordiv(k, SUPER)).astype("float32") * value

    def read(n: Index, k: Index) -> tirx.Expr:
        code = codes(n, k).astype("int32") - as_expr(zero, "int32")
        value = code.astype("float32") * factor(scale, super_scale, n, k)
        if minimum is None:
            return value
        least = factor(minimum, super_minimum, n, k)
        return value + least if plain else value - least

    leaves = [t for t in (codes, scale, minimum, super_scale, super_minimum) if t is not None]
    return read, leaves, cols, depth


@op("GemmBlocks", domain="edgert")
def gemm_blocks(node: Node) -> Tensor:
    """The outputs of QuantizeRows in blocks of 32 times such weights: float32 [..., M, N].

    Inputs: a int8 [..., M, K], a_scale float32 [..., M, K/32], sums; codes, scale, minimum, super_scale, super_minimum.
    sums is QuantizeRows's fourth output where there is a minimum; its third where there is none, and then of 16
    neighbours (K/16) for weights in blocks of 16. With a minimum the third will do too, more slowly.
    """
    a, a_scale, sums = node.need(0), node.need(1), node.need(2)
    weight, leaves, cols, depth = _weight(node, 3)
    if a.dtype != "int8" or not same_dim(a.shape[-1], depth) or not same_dim(a_scale.shape[-1], depth // STEP):
        raise Unsupported(f"a product of {a.dtype} {a.shape} and rows of {depth}", "int8 in blocks of 32")
    sizes = [int(node.attr("size"))] if int(node.attr("size")) == 16 else [16, STEP]
    if not any(same_dim(sums.shape[-1], depth // s) for s in sizes):
        raise Unsupported(f"sums of {sums.shape}", f"sums of {sizes[0]} neighbours")
    if sums.dtype != "int32" and (sums.dtype != "float32" or node.input(5) is None):
        raise Unsupported(f"sums of {sums.dtype}", "int32 sums of codes where there is no minimum")

    def body(i: tuple, r: tuple) -> tirx.Expr:
        x = a(*i[:-1], r[0]).astype("float32") * a_scale(*i[:-1], floordiv(r[0], STEP))
        return x * weight(i[-1], r[0])

    reads = [a, a_scale, sums, *leaves]
    return reduce((*a.shape[:-1], cols), "float32", (depth,), "sum", body, reads, name="gemm_blocks")


@op("GatherBlocks", domain="edgert")
def gather_blocks(node: Node) -> Tensor | Sequence[Tensor]:
    """Rows of such weights as floats: ids integers of any shape (negative: from the end) -> float32 [..., K].

    Inputs: ids, codes, scale, minimum, super_scale, super_minimum. Kernels read the weights of GemmBlocks, so a table
    that is an output layer, too, is stored once.
    """
    ids = node.need(0)
    weight, leaves, cols, depth = _weight(node, 1)

    def of(*i: Index) -> tirx.Expr:
        at = ids(*i[:-1])
        return weight(tirx.if_then_else(at < 0, at + as_expr(cols, str(at.ty.dtype)), at), i[-1])

    return compute((*ids.shape, depth), "float32", of, [ids, *leaves], "gather_blocks")
