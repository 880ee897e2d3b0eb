"""Scaled dot-product attention with all that ONNX gives it (Attention-23 to 25), and the compiler's own plain form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, reduce, same_dim, simplify

from . import mathfn
from .elementwise import broadcast_to
from .numbers import both, cast, floordiv, floormod, need_float, number, stored, wide
from .registry import Node, Unsupported, op

INFINITY = float("inf")


@dataclass(eq=False)
class Heads:
    """A tensor seen as [batch, heads, length, size], whatever its layout. `at(n, h, i, d)` reads it."""

    batch: Index
    heads: int
    length: Index
    size: int
    at: Callable[..., Scalar]
    sources: tuple[Tensor, ...]


def heads_of(t: Tensor, layout: str, heads: int | None) -> Heads:
    """layout BHSD or BSHD for rank 4; rank 3 is [batch, length, heads * size]."""
    if t.ndim == 4:
        if layout == "BSHD":
            n, s, h, d = t.shape
            return Heads(n, number(h, "heads"), s, number(d, "head size"), lambda n, h, i, d: t(n, i, h, d), (t,))
        n, h, s, d = t.shape
        return Heads(n, number(h, "heads"), s, number(d, "head size"), t, (t,))
    if t.ndim != 3:
        raise Unsupported(f"attention over rank {t.ndim}", "rank 3 or 4")
    width = number(t.shape[2], "hidden size")
    if not heads or width % heads:
        raise Unsupported(f"hidden size {width} in {heads} heads")
    each = width // heads
    return Heads(t.shape[0], heads, t.shape[1], each, lambda n, h, i, d: t(n, i, h * each + d), (t,))


def joined(past: Tensor | None, new: Heads) -> Heads:
    """`past` [batch, heads, length, size] and then `new`, along the length."""
    if past is None:
        return new
    before = past.shape[2]

    def at(n: Index, h: Index, i: Index, d: Index) -> Scalar:
        i = as_expr(i)
        return tirx.if_then_else(i < as_expr(before), past(n, h, i, d), new.at(n, h, i - before, d))

    return Heads(new.batch, new.heads, simplify(new.length + before), new.size, at, (past, *new.sources))


def tensor_of(h: Heads, dtype: str, name: str) -> Tensor:
    """[batch, heads, length, size] as a tensor of its own."""
    return compute((h.batch, h.heads, h.length, h.size), dtype, h.at, h.sources, name)


@dataclass(eq=False)
class Scores:
    """The steps from q and k to probabilities, each [batch, heads, q length, k length] in the accumulator's type."""

    raw: Tensor
    capped: Tensor
    biased: Tensor
    probabilities: Tensor


def scores(
    q: Heads, k: Heads, scale: float, acc: str, cap: float = 0.0, bias: Callable[..., Scalar] | None = None,
    bias_sources: Sequence[Tensor] = (), precise: str | None = None,
) -> Scores:  # fmt: skip
    """softmax(cap(q k^T scale) + bias); `bias(n, h, i, j)` is minus infinity where a key must not be seen.

    A row in which no key may be seen is zero, not NaN. precise: the type that the softmax is computed in.
    """
    shape = (q.batch, q.heads, q.length, k.length)
    if q.heads % k.heads or q.size != k.size:
        raise Unsupported(f"{q.heads} query heads of {q.size} on {k.heads} key heads of {k.size}")
    group = q.heads // k.heads

    def dot(i: tuple, r: tuple) -> Scalar:
        n, h, row, col = i
        key = k.at(n, floordiv(h, group), col, r[0])
        return q.at(n, h, row, r[0]).astype(acc) * key.astype(acc)

    factor = tirx.const(scale, acc)
    raw = reduce(shape, acc, [q.size], "sum", dot, [*q.sources, *k.sources], lambda v, *_: v * factor, "qk")
    capped = raw
    if cap:
        limit = tirx.const(cap, acc)
        capped = stored(shape, acc, lambda *i: mathfn.tanh(raw(*i) / limit) * limit, [raw], "capped")
    biased = capped
    if bias is not None:
        biased = compute(shape, acc, lambda *i: capped(*i) + bias(*i), [capped, *bias_sources], "biased")
    inner = precise or acc
    row = (*shape[:3], 1)
    most = reduce(row, acc, [k.length], "max", lambda i, r: biased(*i[:3], r[0]), [biased], None, "row_max")
    zero = tirx.const(0, inner)

    def power(*i: Index) -> Scalar:
        return mathfn.exp(biased(*i).astype(inner) - most(*i[:3], as_expr(0)).astype(inner))

    total = reduce(
        row, inner, [k.length], "sum", lambda i, r: power(*i[:3], r[0]), [biased, most], None, "row_sum"
    )  # fmt: skip
    sources: list[Tensor] = [biased, most, total]
    alive = None
    if bias is not None:
        # counted in float32: TVM's simplifier refuses to name a vector of bools
        yes, no = tirx.const(1, "float32"), tirx.const(0, "float32")
        alive = reduce(
            row, "float32", [k.length], "sum",
            lambda i, r: tirx.if_then_else(bias(*i[:3], r[0]) > tirx.const(-INFINITY, acc), yes, no),
            bias_sources, None, "keys_seen",
        )  # fmt: skip
        sources.append(alive)

    def probability(n: Index, h: Index, i: Index, j: Index) -> Scalar:
        p = power(n, h, i, j) / total(n, h, i, as_expr(0))
        seen = None if alive is None else alive(n, h, i, as_expr(0)) > tirx.const(0, "float32")
        return p if seen is None else tirx.if_then_else(seen, p, zero)

    return Scores(raw, capped, biased, stored(shape, inner, probability, sources, "probabilities"))


def weighted(p: Tensor, v: Heads, acc: str, layout: str, dtype: str) -> Tensor:
    """probabilities x values in `layout`: BHSD, BSHD, or packed ([batch, length, heads * size])."""
    n, h, s = p.shape[:3]
    heads = number(h, "heads")
    group = heads // v.heads
    shape = {"BHSD": (n, h, s, v.size), "BSHD": (n, s, h, v.size), "packed": (n, s, heads * v.size)}[layout]

    def place(i: tuple) -> tuple:
        if layout == "BHSD":
            return i
        if layout == "BSHD":
            return i[0], i[2], i[1], i[3]
        return i[0], floordiv(i[2], v.size), i[1], floormod(i[2], v.size)

    def body(i: tuple, r: tuple) -> Scalar:
        b, head, row, d = place(i)
        value = v.at(b, floordiv(head, group), r[0], d)
        return p(b, head, row, r[0]).astype(acc) * value.astype(acc)

    result = reduce(shape, acc, [v.length], "sum", body, [p, *v.sources], None, "attention")
    return cast(result, dtype)


@op("Attention", since=23)
def attention(node: Node) -> list[Tensor | None]:
    """Y, present_key, present_value, qk_matmul_output."""
    q_in, k_in, v_in, mask, past_k, past_v, valid = (node.input(i) for i in range(7))
    q_in, k_in, v_in = node.need(0), node.need(1), node.need(2)
    if q_in.dtype == "bfloat16":
        reason = "Attention on bfloat16: ONNX rounds each step to 8 bits, the kernels do not"
        raise Unsupported(reason, "Attention on float32")
    acc = wide(need_float(q_in.dtype, node.op))
    q = heads_of(q_in, "BHSD", node.attr("q_num_heads"))
    k_new = heads_of(k_in, "BHSD", node.attr("kv_num_heads"))
    v_new = heads_of(v_in, "BHSD", node.attr("kv_num_heads"))
    k, v = joined(past_k, k_new), joined(past_v, v_new)
    scale = node.attr("scale")
    scale = q.size**-0.5 if scale is None else scale
    bias, sources = bias_of(node, acc, mask, valid, q, k, 0 if past_k is None else past_k.shape[2])
    precise = {None: None, 1: None, 10: None, 16: None, 11: "float64"}.get(node.attr("softmax_precision"), "bad")
    if precise == "bad":
        raise Unsupported(f"softmax_precision {node.attr('softmax_precision')}", "a floating-point type")
    cap = float(node.attr("softcap", 0.0))

    def steps() -> Scores:
        return scores(q, k, scale, acc, cap, bias, sources, precise)

    layout = "BHSD" if q_in.ndim == 4 else "packed"
    results: list[Tensor | None] = [weighted(steps().probabilities, v, acc, layout, q_in.dtype)]
    wanted = [*node.outputs, False, False, False]
    results.append(tensor_of(k, k_in.dtype, "present_key") if wanted[1] else None)
    results.append(tensor_of(v, v_in.dtype, "present_value") if wanted[2] else None)
    if wanted[3]:
        mode = int(node.attr("qk_matmul_output_mode", 0))
        s = steps()
        results.append(cast([s.raw, s.capped, s.biased, s.probabilities][mode], q_in.dtype))
    return results[: len(node.outputs)]


def bias_of(
    node: Node, acc: str, mask: Tensor | None, valid: Tensor | None, q: Heads, k: Heads, past: Index
) -> tuple[Callable[..., Scalar] | None, list[Tensor]]:
    """What is added to the scores: the mask, and minus infinity where causality, window or padding hide a key."""
    causal = bool(node.attr("is_causal", 0))
    left, right = int(node.attr("left_window_size", -1)), int(node.attr("right_window_size", -1))
    sources = [t for t in (mask, valid) if t is not None]
    if not sources and not causal and left < 0 and right < 0:
        return None, []
    never, zero = tirx.const(-INFINITY, acc), tirx.const(0, acc)
    of_mask = _mask_reader(node, mask, (q.batch, q.heads, q.length, k.length), acc) if mask is not None else None

    def bias(n: Index, h: Index, i: Index, j: Index) -> Scalar:
        seen: list[Scalar | bool] = []
        i, j = as_expr(i).astype("int64"), as_expr(j).astype("int64")
        offset: Index = past
        if valid is not None:
            count = valid(n).astype("int64")
            seen.append(j < count)
            offset = count - q.length
        here = i + offset
        if causal:
            seen.append(j <= here)
        if left >= 0:
            seen.append(here - j <= left)
        if right >= 0:
            seen.append(j - here <= right)
        value = zero if of_mask is None else of_mask(n, h, i, j)
        return tirx.if_then_else(both(seen), value, never) if seen else value

    return bias, sources


def _mask_reader(node: Node, mask: Tensor, shape: Sequence[Index], acc: str) -> Callable[..., Scalar]:
    """The mask as something to add. From opset 24 on a last dimension too short is filled with minus infinity."""
    never, zero = tirx.const(-INFINITY, acc), tirx.const(0, acc)
    short = node.version >= 24 and not same_dim(mask.shape[-1], shape[-1])
    if mask.dtype != "bool" and mask.dtype not in ("float16", "bfloat16", "float32", "float64"):
        raise Unsupported(f"a mask of {mask.dtype}", "a bool or float mask")
    wide_shape = [*shape[:-1], mask.shape[-1]] if short else shape
    read = broadcast_to(mask, wide_shape)

    def fn(*i: Index) -> Scalar:
        value = read(*i)
        value = tirx.if_then_else(value, zero, never) if mask.dtype == "bool" else value.astype(acc)
        return tirx.if_then_else(as_expr(i[-1]) < as_expr(mask.shape[-1]), value, never) if short else value

    return fn


@op("Attention", domain="edgert")
def plain_attention(node: Node) -> Tensor:
    """Q, K, V and an additive or boolean mask that broadcasts; attributes scale, causal, layout, num_heads."""
    q_in, k_in, v_in, mask = node.need(0), node.need(1), node.need(2), node.input(3)
    acc = wide(need_float(q_in.dtype, node.op))
    layout, heads = node.attr("layout", "BHSD"), node.attr("num_heads")
    q, k, v = (heads_of(t, layout, heads) for t in (q_in, k_in, v_in))
    scale = node.attr("scale")
    inner = Node(node.op, "", 23, node.name, [], {"is_causal": node.attr("causal", 0)}, [True], [])
    bias, sources = bias_of(inner, acc, mask, None, q, k, 0)
    s = scores(q, k, q.size**-0.5 if scale is None else scale, acc, 0.0, bias, sources)
    return weighted(s.probabilities, v, acc, layout if q_in.ndim == 4 else "packed", q_in.dtype)
