"""Matrix products: ONNX's MatMul and Gemm, and the two forms that have kernels (edgert.Gemm, edgert.MatMul)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, same_dim

from .elementwise import broadcast_shape
from .numbers import cast, wide
from .registry import Node, Unsupported, op


def batch_index(shape: Sequence[Index], batch: Sequence[Index], lead: Sequence[Index]) -> list[Index]:
    """Where the leading axes `shape` are read for position `lead` of the broadcast `batch`."""
    skip = len(batch) - len(shape)
    return [0 if isinstance(s, int) and s == 1 else i for s, i in zip(shape, lead[skip:], strict=True)]


def product_of(a: Tensor, b: Tensor, swap_a: bool = False, swap_b: bool = False) -> Tensor:
    """numpy's matmul over the last two axes (swapped in memory where said), others broadcast; halves sum in float32."""
    if a.ndim == 0 or b.ndim == 0:
        raise Unsupported("a matrix product with a scalar", "operands of at least one dimension")
    rows, depth = [1, a.shape[0]] if a.ndim == 1 else a.shape[-2:][::-1] if swap_a else a.shape[-2:]
    inner, cols = [b.shape[0], 1] if b.ndim == 1 else b.shape[-2:][::-1] if swap_b else b.shape[-2:]
    if not same_dim(depth, inner):
        raise Unsupported(f"a product over {depth} and {inner} elements", "equal inner dimensions")
    batch = broadcast_shape(a.shape[:-2], b.shape[:-2])
    acc = wide(a.dtype)

    def body(i: tuple, r: tuple) -> tirx.Expr:
        lead, at = i[: len(batch)], list(i[len(batch) :])
        left = [at.pop(0), r[0]] if a.ndim > 1 else [r[0]]
        right = [r[0], at.pop(0)] if b.ndim > 1 else [r[0]]
        x = a(*batch_index(a.shape[:-2], batch, lead), *(left[::-1] if swap_a else left))
        y = b(*batch_index(b.shape[:-2], batch, lead), *(right[::-1] if swap_b else right))
        return x.astype(acc) * y.astype(acc)

    shape = [*batch, *([rows] if a.ndim > 1 else []), *([cols] if b.ndim > 1 else [])]
    return cast(reduce(shape, acc, (depth,), "sum", body, [a, b], name="matmul"), a.dtype)


@op("MatMul", since=1)
def matmul(node: Node) -> Tensor:
    """numpy.matmul."""
    return product_of(node.need(0), node.need(1))


@op("Gemm", since=7)
def gemm(node: Node) -> Tensor:
    """alpha * A' * B' + beta * C, where A' and B' may be read transposed; integers as well as floats."""
    a, b, c = node.need(0), node.need(1), node.input(2)
    if a.ndim != 2 or b.ndim != 2:
        raise Unsupported(f"Gemm of tensors with {a.ndim} and {b.ndim} dimensions", "matrices")
    acc = wide(a.dtype)
    ab = product_of(a, b, bool(node.attr("transA", 0)), bool(node.attr("transB", 0)))
    alpha, beta = (float(node.attr(name, 1.0)) for name in ("alpha", "beta"))
    if not acc.startswith("float") and (alpha != int(alpha) or beta != int(beta)):
        raise Unsupported(f"alpha {alpha} and beta {beta} on {acc}", "whole alpha and beta")

    def scaled(value: tirx.Expr, by: float) -> tirx.Expr:
        return value if by == 1.0 else value * as_expr(by if acc.startswith("float") else int(by), acc)

    def element(i: Index, j: Index) -> tirx.Expr:
        value = scaled(ab(i, j).astype(acc), alpha)
        if c is not None and beta != 0.0:
            value = value + scaled(c(*batch_index(c.shape, ab.shape, (i, j))).astype(acc), beta)
        return value.astype(a.dtype)

    if c is not None and len(broadcast_shape(ab.shape, c.shape)) != 2:
        raise Unsupported(f"Gemm's C of shape {c.shape}", "a C that broadcasts to the result")
    return compute(ab.shape, a.dtype, element, [ab] if c is None else [ab, c], "gemm")


@op("Gemm", domain="edgert")
def packed_gemm(node: Node) -> Tensor:
    """A [..., M, K] times a constant B [K, N] (transB: [N, K])."""
    return product_of(node.need(0), node.need(1), swap_b=bool(node.attr("transB", 0)))


@op("MatMul", domain="edgert")
def batched_matmul(node: Node) -> Tensor:
    """MatMul whose operands may be stored with their last two axes swapped (transA, transB)."""
    return product_of(node.need(0), node.need(1), bool(node.attr("transA", 0)), bool(node.attr("transB", 0)))
