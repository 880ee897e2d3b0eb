"""MatMulNBits (domain com.microsoft): a product with a matrix of 2, 4 or 8 bits in blocks along its depth.

B [N, blocks, block_size * bits / 8] holds the matrix transposed, the first number of a byte in its lowest bits; scales
[N, blocks]; zero points packed like B, a row of whole bytes for each column, or as floats. All may be flattened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, product, reduce, same_dim

from . import mathfn as fn
from .numbers import FLOATS, cast, floordiv, floormod, number
from .registry import Node, Unsupported, op

BITS = (2, 4, 8)


@dataclass(frozen=True)
class Blocks:
    """The sizes of one matrix [K, N] in blocks."""

    k: int
    n: int
    size: int
    bits: int

    @property
    def count(self) -> int:
        """Blocks of one column."""
        return -(-self.k // self.size)

    @property
    def zero_bytes(self) -> int:
        """Bytes that the packed zero points of one column take."""
        return -(-self.count * self.bits // 8)


def blocks(node: Node) -> Blocks:
    """The sizes from the attributes. Raises Unsupported for other numbers of bits, and for groups out of order."""
    bits = int(node.attr("bits", 4))
    if bits not in BITS:
        raise Unsupported(f"MatMulNBits of {bits} bits", "2, 4 or 8 bits")
    if node.input(4) is not None:
        raise Unsupported("MatMulNBits with g_idx", "columns sorted by group, without g_idx")
    if node.attr("weight_prepacked", 0):
        raise Unsupported("MatMulNBits with weights packed for one device", "weight_prepacked = 0")
    return Blocks(int(node.attr("K")), int(node.attr("N")), int(node.attr("block_size")), bits)


def flat(t: Tensor, count: int, what: str) -> Callable[[Index], tirx.Expr]:
    """A reader of element i of `t`, whatever its shape. Raises Unsupported unless it has `count` elements."""
    shape = [number(d, what) for d in t.shape]
    if product(shape) != count:
        raise Unsupported(f"{what} of shape {tuple(shape)}", f"{count} elements")

    def read(i: Index) -> tirx.Expr:
        at: list[Index] = []
        for d in reversed(shape):
            at.insert(0, floormod(i, d))
            i = floordiv(i, d)
        return t(*at)

    return read


def field(read: Callable[[Index], tirx.Expr], row: Index, width: int, i: Index, bits: int) -> tirx.Expr:
    """Number i of `row`, whose numbers are packed into `width` bytes, as int32."""
    each = 8 // bits
    byte = read(row * width + floordiv(i, each)).astype("int32")
    if each == 1:
        return byte
    return (byte >> (as_expr(floormod(i, each), "int32") * bits)) & as_expr((1 << bits) - 1, "int32")


@op("MatMulNBits", domain="com.microsoft")
def matmul_nbits(node: Node) -> Tensor:
    """A [..., K] times (B - zero point) * scale, plus the bias [N]. accuracy_level only allows coarser arithmetic."""
    a, b, scales, zeros, bias = node.need(0), node.need(1), node.need(2), node.input(3), node.input(5)
    sizes = blocks(node)
    if not same_dim(a.shape[-1], sizes.k) or a.dtype not in FLOATS or b.dtype != "uint8":
        raise Unsupported(f"{a.dtype} {a.shape} times {b.dtype}", f"floats with {sizes.k} columns times uint8")
    width = sizes.count * sizes.size * sizes.bits // 8
    data = flat(b, sizes.n * width, "B")
    scale = flat(scales, sizes.n * sizes.count, "scales")
    offset: Callable[[Index, Index], tirx.Expr]
    if zeros is None:
        offset = lambda n, block: tirx.const(1 << (sizes.bits - 1), "float32")  # noqa: E731
    elif zeros.dtype == "uint8":
        packed = flat(zeros, sizes.n * sizes.zero_bytes, "zero points")
        offset = lambda n, block: field(packed, n, sizes.zero_bytes, block, sizes.bits).astype("float32")  # noqa: E731
    else:
        plain = flat(zeros, sizes.n * sizes.count, "zero points")
        offset = lambda n, block: plain(n * sizes.count + block).astype("float32")  # noqa: E731

    def weight(k: Index, n: Index) -> tirx.Expr:
        block = floordiv(k, sizes.size)
        value = field(data, n, width, k, sizes.bits).astype("float32")
        return (value - offset(n, block)) * scale(n * sizes.count + block).astype("float32")

    used = [b, scales] if zeros is None else [b, scales, zeros]
    w = compute((sizes.k, sizes.n), "float32", weight, used, "weight")

    def body(i: tuple, r: tuple) -> tirx.Expr:
        return a(*i[:-1], r[0]).astype("float32") * w(r[0], i[-1])

    finish = None if bias is None else lambda v, *i: fn.add(v, bias(i[-1]).astype("float32"))
    reads = [a, w] if bias is None else [a, w, bias]
    total = reduce((*a.shape[:-1], sizes.n), "float32", (sizes.k,), "sum", body, reads, finish, "matmul_nbits")
    return cast(total, a.dtype)
