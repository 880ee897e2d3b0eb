"""Rows of floats as bytes with a scale for each block: the left side of gemm_int4x8, made once for all its readers."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import QUAD, load_vector, store_vector
from .loops import GRAIN
from .nibbles import splat
from .registry import Call, template
from .rounding import LEAST_SCALE, MAGIC, MAGIC_BITS
from .stage import Stage
from .tensor import product


@template("edgert.QuantizeRows")
def quantize_rows(call: Call, target: Target) -> list[Stage] | None:
    """x float32 [..., K] -> int8 [..., K], scales float32 [..., K/block], -8 times the sums int32 [..., K/sums].

    And, where wanted, scale times sum, float32 [..., K/block].
    """
    x, block = call.need(0), int(call.attrs["block"])
    each = int(call.attrs.get("sums", block))
    depth = x.shape[-1]
    if not isinstance(depth, int) or depth % block or x.dtype != "float32" or product(x.shape) == 0:
        return None
    lanes = min(target.lanes("float32"), block & -block, each & -each)
    rows, blocks = product(x.shape[:-1]), depth // block
    b = Builder(f"quantize_rows_f32s8_g{block}{f's{each}' if each != block else ''}_{target.isa}")
    source, codes = b.arg(x, (rows, depth)), b.arg(call.results[0], (rows, depth))
    scales, offsets = b.arg(call.results[1], (rows, blocks)), b.arg(call.results[2], (rows, depth // each))
    more = call.results[3] if len(call.results) > 3 else None
    scaled = None if more is None else b.arg(more, (rows, blocks))
    with b, b.parallel(rows, max(1, GRAIN // depth)) as row, b.serial(tirx.const(blocks, "int64"), "block") as at:
        parts = [b.let(load_vector(source, row, at * block + i, count=lanes)) for i in range(0, block, lanes)]
        most: tirx.Expr | None = None
        for part in parts:
            size = tirx.max(part, splat(0.0, "float32", lanes) - part)
            most = size if most is None else b.let(tirx.max(most, size))
        assert most is not None
        largest = _fold(b, most, lanes, tirx.max)
        scale = b.let(tirx.max(largest / tirx.const(127.0, "float32"), tirx.const(LEAST_SCALE, "float32")))
        b.store(scales, (row, at), scale)
        totals: list[tirx.Expr] = []
        for i, part in enumerate(parts):
            whole = b.let(_rounded(part / tirx.Broadcast(scale, lanes), lanes))
            store_vector(b, codes, whole.astype(f"int8x{lanes}"), row, at * block + i * lanes)
            if i * lanes % each:
                totals[-1] = b.let(totals[-1] + whole)
            else:
                totals.append(whole)
        sums = [b.let(_fold(b, total, lanes, lambda p, q: p + q)) for total in totals]
        for i, part in enumerate(sums):
            b.store(offsets, (row, at * (block // each) + i), part * tirx.const(-2 * QUAD, "int32"))
        if scaled is not None:
            b.store(scaled, (row, at), reduce(lambda p, q: p + q, sums).astype("float32") * scale)
    return [b.stage()]


def _rounded(value: tirx.Expr, lanes: int) -> tirx.Expr:
    """Rounded to the nearest whole number, ties to even, as int32; |value| is at most 127 and a rounding."""
    held = tirx.min(tirx.max(value, splat(-128.0, "float32", lanes)), splat(127.0, "float32", lanes))
    bits = tirx.reinterpret(f"int32x{lanes}", held + splat(MAGIC, "float32", lanes))
    return bits - splat(MAGIC_BITS, "int32", lanes)


def _fold(b: Builder, vector: tirx.Expr, lanes: int, combine: Callable[..., tirx.Expr]) -> tirx.Expr:
    """One number of all lanes: halves combined until one lane is left."""
    while lanes > 1:
        lanes //= 2
        low, high = (
            tirx.Shuffle([vector], [tirx.const(start + i, "int32") for i in range(lanes)]) for start in (0, lanes)
        )
        vector = b.let(combine(low, high))
    return vector
