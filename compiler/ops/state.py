"""Operators with a state carried between calls: caches, causal convolution, linear attention."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, reduce
from targets.target import Target

from . import mathfn
from .numbers import cast, floormod, need_float, number, wide
from .registry import Custom, Node, Unsupported, op
from .shapes import axis_of


@op("TensorScatter", since=24)
def tensor_scatter(node: Node) -> Tensor:
    """past_cache with `update` written along axis from write_indices[b] on; mode circular wraps around."""
    past, update, where = node.need(0), node.need(1), node.input(2)
    axis = axis_of(int(node.attr("axis", -2)), past.ndim)
    mode = node.attr("mode", "linear")
    if mode not in ("linear", "circular") or axis == 0:
        raise Unsupported(f"mode {mode} along axis {axis}")
    size, length = past.shape[axis], update.shape[axis]

    def fn(*i: Index) -> Scalar:
        at = as_expr(i[axis]).astype("int64")
        if where is not None:
            at = at - where(i[0]).astype("int64")
        if mode == "circular":
            at = as_expr(floormod(at, size))
        inside = tirx.all(at >= as_expr(0, "int64"), at < as_expr(length, "int64"))
        return tirx.if_then_else(inside, update(*i[:axis], at, *i[axis + 1 :]), past(*i))

    return compute(past.shape, past.dtype, fn, [t for t in (past, update, where) if t is not None], "tensor_scatter")


@op("CausalConvWithState", since=27)
def causal_conv_with_state(node: Node) -> list[Tensor | None]:
    """x [N, C, L], weight [C, 1, k], bias [C], past_state [N, C, k - 1] -> y [N, C, L], the last k - 1 inputs."""
    x, w, bias, past = node.need(0), node.need(1), node.input(2), node.input(3)
    acc = wide(need_float(x.dtype, node.op))
    k, length = number(w.shape[2], "kernel"), x.shape[2]
    activation = node.attr("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise Unsupported(f"activation {activation}", "silu")

    def before(n: Index, c: Index, p: Scalar) -> Scalar:
        """Element p of the past (of length k - 1) followed by x."""
        old = tirx.const(0, x.dtype) if past is None else past(n, c, p)
        return tirx.if_then_else(p < k - 1, old, x(n, c, p - (k - 1)))

    def finish(value: Scalar, *i: Index) -> Scalar:
        return value if bias is None else value + bias(i[1]).astype(acc)

    used = [t for t in (x, w, bias, past) if t is not None]
    y = reduce(
        x.shape, acc, [k], "sum",
        lambda i, r: before(i[0], i[1], as_expr(i[2]) + r[0]).astype(acc) * w(i[1], as_expr(0), r[0]).astype(acc),
        used, finish, "causal_conv",
    )  # fmt: skip
    if activation != "none":
        inner = y
        y = compute(x.shape, acc, lambda *i: inner(*i) * mathfn.sigmoid(inner(*i)), [inner], "silu")
    state = compute(
        (x.shape[0], x.shape[1], k - 1), x.dtype, lambda n, c, j: before(n, c, as_expr(j) + length), used, "state"
    )
    results: list[Tensor | None] = [cast(y, x.dtype), state]
    return results[: len(node.outputs)]


@op("LinearAttention", since=27)
def linear_attention(node: Node) -> Custom:
    """S <- exp(g) S + k (beta (v - S^T k))^T, o = scale q^T S, token by token; S [N, heads, d_k, d_v] in float32.

    One task runs the tokens of one sequence and key head.
    """
    query, key, value, past, decay, beta = (node.input(i) for i in range(6))
    query, key, value = node.need(0), node.need(1), node.need(2)
    rule = node.attr("update_rule", "gated_delta")
    gated, delta = rule in ("gated", "gated_delta"), rule in ("delta", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise Unsupported(f"update_rule {rule}")
    if gated != (decay is not None) or delta != (beta is not None):
        raise Unsupported(f"update_rule {rule} with the wrong inputs")
    need_float(query.dtype, node.op)
    heads_q, heads = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
    dk = number(query.shape[2], "hidden size") // heads_q
    dv = number(value.shape[2], "hidden size") // heads
    group = heads_q // heads
    scale = float(node.attr("scale", 0.0)) or dk**-0.5
    acc = wide(query.dtype)
    batch, steps = query.shape[0], query.shape[1]
    state_type = query.dtype if past is None else past.dtype
    outputs = [
        Tensor((batch, steps, heads_q * dv), query.dtype, "o"), Tensor((batch, heads, dk, dv), state_type, "present")
    ]  # fmt: skip

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder("linear_attention")
        state, row = Temp((batch, heads, dk, dv), acc, "state"), Temp((batch, heads, dv), acc, "row")
        tasks = as_expr(batch, "int64") * heads
        with b, b.parallel(tasks) as p:
            n, h = b.let(tirx.floordiv(p, as_expr(heads, "int64"))), b.let(tirx.floormod(p, as_expr(heads, "int64")))
            s, v_row, o, present = b.arg(state), b.arg(row), b.arg(results[0]), b.arg(results[1])

            def each(fn: Callable[[Scalar, Scalar], None]) -> None:
                with b.serial(dk, "d") as d, b.serial(dv, "m") as m:
                    fn(d, m)

            first = tirx.const(0, acc)
            each(lambda d, m: b.store(s, (n, h, d, m), first if past is None else past(n, h, d, m).astype(acc)))
            with b.serial(steps, "t") as t:

                def of(x: Tensor, i: Index) -> Scalar:
                    return x(n, t, i).astype(acc)

                if decay is not None:
                    per_head = decay.shape[2] == heads
                    each(lambda d, m: b.store(
                        s, (n, h, d, m),
                        s[n, h, d, m] * mathfn.exp(of(decay, h if per_head else h * dk + d)),
                    ))  # fmt: skip
                with b.serial(dv, "m") as m:
                    b.store(v_row, (n, h, m), of(value, h * dv + m))
                    if beta is not None:
                        with b.serial(dk, "d") as d:
                            b.store(v_row, (n, h, m), v_row[n, h, m] - s[n, h, d, m] * of(key, h * dk + d))
                        rate = of(beta, as_expr(0, "int64") if beta.shape[2] == 1 else h)
                        b.store(v_row, (n, h, m), v_row[n, h, m] * rate)
                each(lambda d, m: b.store(s, (n, h, d, m), s[n, h, d, m] + of(key, h * dk + d) * v_row[n, h, m]))
                with b.serial(group, "g") as g, b.serial(dv, "m") as m:
                    total = b.local((1,), acc)
                    head = h * group + g
                    b.store(total, 0, tirx.const(0, acc))
                    with b.serial(dk, "d") as d:
                        b.store(total, 0, total[0] + of(query, head * dk + d) * s[n, h, d, m])
                    b.store(o, (n, t, head * dv + m), total[0] * tirx.const(scale, acc))
            each(lambda d, m: b.store(present, (n, h, d, m), s[n, h, d, m]))
        return [b.stage()]

    return Custom(outputs, emit, tuple(t for t in node.inputs if t is not None))
