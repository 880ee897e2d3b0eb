"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864) as ONNX's RotaryEmbedding has it."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute

from .numbers import clamp, equal, floordiv, floormod, need_float, number, wide
from .registry import Node, Unsupported, op
from .scalar import like


@op("RotaryEmbedding", since=23)
def rotary_embedding(node: Node) -> Tensor:
    """x [N, heads, S, size] or [N, S, heads * size]; caches [positions, half] with position_ids, else [N, S, half]."""
    x, cos, sin, ids = node.need(0), node.need(1), node.need(2), node.input(3)
    acc = wide(need_float(x.dtype, node.op))
    if x.ndim == 4:
        size = number(x.shape[3], "head size")
    else:
        heads = int(node.attr("num_heads", 0))
        width = number(x.shape[2], "hidden size")
        if not heads or width % heads:
            raise Unsupported(f"hidden size {width} in {heads} heads")
        size = width // heads
    rotated = int(node.attr("rotary_embedding_dim", 0)) or size
    half = rotated // 2
    interleaved = bool(node.attr("interleaved", 0))

    def fn(*i: Index) -> tirx.Expr:
        n, s = i[0], i[2] if x.ndim == 4 else i[1]
        d = as_expr(i[-1] if x.ndim == 4 else floormod(i[-1], size))
        pair = floormod(floordiv(d, 2) if interleaved else d, half)  # in range for what is not rotated, too
        second = equal(floormod(d, 2), 1) if interleaved else d >= half
        step = 1 if interleaved else half

        def angle(t: Tensor) -> tirx.Expr:
            if ids is None:
                return t(n, s, pair).astype(acc)
            row = clamp(ids(n, s).astype("int64"), 0, t.shape[0] - 1)
            return t(row, pair).astype(acc)

        here = x(*i).astype(acc)
        # the other of the pair, in the same head: the first takes -sin of the second, the second +sin of the first
        last = as_expr(i[-1])
        other = x(*i[:-1], last + tirx.Select(second, like(-step, last), like(step, last))).astype(acc)
        sign = tirx.Select(second, tirx.const(1, acc), tirx.const(-1, acc))
        turned = here * angle(cos) + sign * (other * angle(sin))
        if rotated < size:
            turned = tirx.if_then_else(d < rotated, turned, here)
        return turned.astype(x.dtype)

    used = [t for t in (x, cos, sin, ids) if t is not None]
    return compute(x.shape, x.dtype, fn, used, "rotary")
