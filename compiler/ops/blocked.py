"""The compiler's own products with weights of few bits, which kernels keep packed in memory and unpack in registers.

compiler/passes/blocked.py makes them of DequantizeLinear (or a Gather from a table) of constants in front of MatMul and
Gemm, and of MatMulNBits. Everywhere a block is `block` neighbours along the axis that is summed over, the last one
perhaps shorter; block 0 means one scale for each column, or one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.rounding import LEAST_SCALE
from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce, same_dim

from . import mathfn as fn
from .numbers import floordiv, floormod, number
from .quantize import INTEGERS, SCALES, integer, limits, requantize
from .registry import Node, Unsupported, op

Weight = Callable[[Index, Index], tirx.Expr]  # (k, n) -> float32
TILE = 32  # rows and columns of a tile of rows in bfloat16
OFFSET = 8  # kernels keep int4 codes plus 8, so that they are 0 to 15


def _sizes(node: Node, a: Tensor, q: Tensor) -> tuple[int, int]:
    """Depth and columns of the weights. Raises Unsupported where they do not fit `a`."""
    shape = [number(d, "weights") for d in q.shape]
    if len(shape) != 2 or not same_dim(a.shape[-1], shape[1 if node.attr("transB", 0) else 0]):
        raise Unsupported(f"a product of {a.shape} and {q.shape}")
    return (shape[1], shape[0]) if node.attr("transB", 0) else (shape[0], shape[1])


def _of_block(node: Node, t: Tensor) -> Weight:
    """A reader, by (k, n), of what a block of weights shares."""
    block, swapped = int(node.attr("block", 0)), bool(node.attr("transB", 0))
    if t.ndim == 2:
        return lambda k, n: t(n, floordiv(k, block)) if swapped else t(floordiv(k, block), n)
    single = t.ndim == 0 or same_dim(t.shape[0], 1)
    return lambda k, n: t(*[as_expr(0) if single else n] * t.ndim)


def _code(node: Node, q: Tensor, zero: Tensor | None) -> Weight:
    """code - zero point as int32."""
    swapped = bool(node.attr("transB", 0))
    offset = None if zero is None else _of_block(node, zero)

    def read(k: Index, n: Index) -> tirx.Expr:
        value = integer(q(n, k) if swapped else q(k, n), q.dtype)
        return value if offset is None or zero is None else fn.sub(value, integer(offset(k, n), zero.dtype))

    return read


def _product(a: Tensor, weight: Weight, depth: int, cols: int, reads: Sequence[Tensor], name: str) -> Tensor:
    def body(i: tuple, r: tuple) -> tirx.Expr:
        return a(*i[:-1], r[0]) * weight(r[0], i[-1])

    return reduce((*a.shape[:-1], cols), "float32", (depth,), "sum", body, [a, *reads], name=name)


@op("GemmBlocked", domain="edgert")
def gemm_blocked(node: Node) -> Tensor:
    """a float32 [..., M, K] times (q - zero) * scale: q constant 4-bit or 8-bit [K, N] (transB: [N, K]).

    scale and zero: [blocks, N] (transB: [N, blocks]), [N], or one.
    """
    a, q, scale, zero = node.need(0), node.need(1), node.need(2), node.input(3)
    if a.dtype != "float32" or q.dtype not in INTEGERS or scale.dtype not in SCALES:
        raise Unsupported(f"a product of {a.dtype} and {q.dtype} with a scale of {scale.dtype}")
    depth, cols = _sizes(node, a, q)
    code, by = _code(node, q, zero), _of_block(node, scale)
    reads = [t for t in (q, scale, zero) if t is not None]
    return _product(
        a, lambda k, n: code(k, n).astype("float32") * by(k, n).astype("float32"), depth, cols, reads, "gemm_blocked"
    )


@op("GemmLookup", domain="edgert")
def gemm_lookup(node: Node) -> Tensor:
    """a float32 [..., M, K] times table[index] * scale: index uint4 or uint8 below 16, [K, N] (transB: [N, K]).

    table float32 [16], or [tables, 16] with the number of each column's table in `book` [N], int32; scale float32 as in
    GemmBlocked, or left out.
    """
    a, index, table, scale, book = node.need(0), node.need(1), node.need(2), node.input(3), node.input(4)
    depth, cols = _sizes(node, a, index)
    code = _code(node, index, None)
    by = None if scale is None else _of_block(node, scale)

    def weight(k: Index, n: Index) -> tirx.Expr:
        value = table(code(k, n)) if book is None else table(book(n), code(k, n))
        return value if by is None else value * by(k, n)

    reads = [t for t in (index, table, scale, book) if t is not None]
    return _product(a, weight, depth, cols, reads, "gemm_lookup")


@op("GatherBlocked", kind="injective", domain="edgert")
def gather_blocked(node: Node) -> Tensor:
    """Rows of a table [V, D] of 4-bit codes, two in a byte (the first in the low half), as floats.

    packed uint8 [V, ceil(D/2)], ids integers of any shape (negative: from the end), scale [V, blocks] of blocks along
    D, zero as bytes [V, blocks] or left out. Attributes `width` (D), `block`, `signed`.
    """
    packed, ids, scale, zero = node.need(0), node.need(1), node.need(2), node.input(3)
    width, block, signed = (int(node.attr(name)) for name in ("width", "block", "signed"))

    def of(*i: Index) -> tirx.Expr:
        at = ids(*i[:-1])
        row = tirx.if_then_else(at < 0, at + as_expr(packed.shape[0], str(at.ty.dtype)), at)
        column = as_expr(i[-1], "int64")
        byte = packed(row, floordiv(column, 2)).astype("int32")
        code = (byte >> (as_expr(floormod(column, 2), "int32") * 4)) & as_expr(15, "int32")
        part = floordiv(column, block)
        if signed:  # the upper half of the codes stands for -8 to -1
            code = (code ^ as_expr(8, "int32")) - as_expr(8, "int32")
        if zero is not None:
            code = code - zero(row, part).astype("int32")
        return code.astype("float32") * scale(row, part).astype("float32")

    reads = [t for t in (packed, ids, scale, zero) if t is not None]
    return compute((*ids.shape, width), "float32", of, reads, "gather_blocked")


@op("QuantizeRows", domain="edgert")
def quantize_rows(node: Node) -> Sequence[Tensor]:
    """x float32 [..., K] in blocks along K (which `block` divides): int8 codes [..., K]; scales float32 [..., K/block];
    and int32 [..., K/sums], the sums of the codes times -8, by which products with codes plus 8 are too large.

    With the attribute `tiles` a last output, uint16: the rows rounded to bfloat16 in tiles, for products of many rows.
    Kernels make it in place of the codes where rows are many (targets/kernels/half_rows.py).

    `sums` divides `block`, and is it where left out. A fourth output, float32 [..., K/block]: the scale times the sum
    of the codes.

    scale = max(max|x| / 127, 1e-30), code = round_half_to_even(x / scale): what quant/int4x8.py writes.
    """
    x, block = node.need(0), int(node.attr("block"))
    each = int(node.attr("sums", block))
    if x.dtype != "float32" or not same_dim(floormod(x.shape[-1], block), 0) or block % each:
        raise Unsupported(f"{x.dtype} {x.shape} in blocks of {block}", "float32 in whole blocks")
    shape = (*x.shape[:-1], floordiv(x.shape[-1], block))

    def size(i: tuple, r: tuple) -> tirx.Expr:
        return fn.absolute(x(*i[:-1], i[-1] * block + r[0]))

    largest = reduce(shape, "float32", (block,), "max", size, [x], name="largest")

    def step(*i: Index) -> tirx.Expr:
        return tirx.max(largest(*i) / tirx.const(127.0, "float32"), tirx.const(LEAST_SCALE, "float32"))

    scale = compute(shape, "float32", step, [largest], "scale")

    def code(*i: Index) -> tirx.Expr:
        return requantize(x(*i) / scale(*i[:-1], floordiv(i[-1], block)), None, "int8")

    codes = compute(x.shape, "int8", code, [x, scale], "codes")

    def term(i: tuple, r: tuple) -> tirx.Expr:
        return codes(*i[:-1], i[-1] * each + r[0]).astype("int32")

    def of_block(i: tuple, r: tuple) -> tirx.Expr:
        return codes(*i[:-1], i[-1] * block + r[0]).astype("int32")

    parts = (*x.shape[:-1], floordiv(x.shape[-1], each))
    total = reduce(parts, "int32", (each,), "sum", term, [codes], name="sums")
    offset = compute(parts, "int32", lambda *i: total(*i) * tirx.const(-OFFSET, "int32"), [total], "offsets")
    tiles = [_tiles(x)] if node.attr("tiles", 0) else []
    if len(node.outputs) - len(tiles) < 4:
        return [codes, scale, offset, *tiles]
    whole = offset if each == block else reduce(shape, "int32", (block,), "sum", of_block, [codes], name="whole")
    factor = -1.0 / OFFSET if each == block else 1.0

    def scaled(*i: Index) -> tirx.Expr:
        return whole(*i).astype("float32") * tirx.const(factor, "float32") * scale(*i)

    return [codes, scale, offset, compute(shape, "float32", scaled, [whole, scale], "scaled_sums"), *tiles]


def _tiles(x: Tensor) -> Tensor:
    """x [M, K] as bfloat16 in tiles of 32 rows of 32 elements, uint16 [ceil(M / 32), K / 32, 32, 32]."""
    rows, depth = x.shape

    def of(*i: Index) -> tirx.Expr:
        row = i[0] * TILE + i[2]
        value = tirx.if_then_else(row < rows, x(row, i[1] * TILE + i[3]), tirx.const(0.0, "float32"))
        bits = tirx.reinterpret("uint32", value) + tirx.const(0x8000, "uint32")
        return tirx.shift_right(bits, tirx.const(16, "uint32")).astype("uint16")

    return compute((floordiv(rows + (TILE - 1), TILE), floordiv(depth, TILE), TILE, TILE), "uint16", of, [x], "tiles")


@op("GemmInt4x8", domain="edgert")
def gemm_int4x8(node: Node) -> Tensor:
    """The outputs of QuantizeRows times constant 4-bit (q - zero) * scale, as in GemmBlocked, with equal blocks.

    The sum over blocks of x_scale * scale * (the int32 sum of products of codes).
    """
    x, x_scale, q, scale, zero = node.need(0), node.need(1), node.need(3), node.need(4), node.input(5)
    block = int(node.attr("block"))
    if x.dtype != "int8" or q.dtype not in ("int4", "uint4") or limits(q.dtype)[1] > 15 or scale.ndim != 2:
        raise Unsupported(f"a product of {x.dtype} and {q.dtype}", "int8 and int4 with a scale for each block")
    depth, cols = _sizes(node, x, q)
    code, by = _code(node, q, zero), _of_block(node, scale)

    def body(i: tuple, r: tuple) -> tirx.Expr:
        whole = (x(*i[:-1], r[0]).astype("int32") * code(r[0], i[-1])).astype("float32")
        return whole * x_scale(*i[:-1], floordiv(r[0], block)) * by(r[0], i[-1]).astype("float32")

    reads = [t for t in (x, x_scale, node.need(2), q, scale, zero) if t is not None]
    return reduce((*x.shape[:-1], cols), "float32", (depth,), "sum", body, reads, name="gemm_int4x8")
