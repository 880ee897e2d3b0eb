"""Attention between bytes, as quantized transformers spell it: both products in integers, the softmax in floats."""

from __future__ import annotations

from dataclasses import replace

from tvm import tirx

from targets.kernels.rounding import to_integer
from targets.kernels.tensor import Index, Scalar, Tensor

from .attention import Heads, bias_of, heads_of, scores, weighted
from .numbers import stored
from .registry import Node, Unsupported, op

BYTES = ("int8", "uint8")
EXACT = 1 << 24  # integers up to here are float32 numbers


def largest_head() -> int:
    """The largest head whose scores are exact as float32."""
    return EXACT // (255 * 255)


@op("IntegerAttention", domain="edgert")
def integer_attention(node: Node) -> Tensor:
    """sum over keys of round(softmax((q - zq)(k - zk)^T scale + mask) / step) (v - zv), in int32.

    Q, K, V: int8 or uint8, [B, H, S, D] or as `layout` and `num_heads` say; the mask, additive or boolean, broadcasts
    to [B, H, S, T]. Attributes: q_zero, k_zero, v_zero; scale: of the scores; step: of the probabilities, whose codes
    go from 0 to `levels` (at most 255).
    """
    q_in, k_in, v_in, mask = node.need(0), node.need(1), node.need(2), node.input(3)
    for t in (q_in, k_in, v_in):
        if t.dtype not in BYTES:
            raise Unsupported(f"attention between integers with a side of {t.dtype}", "int8 or uint8")
    layout, heads = node.attr("layout", "BHSD"), node.attr("num_heads")
    q, k = (_centred(node, t, name, layout, heads, "float32") for t, name in ((q_in, "q"), (k_in, "k")))
    v = _centred(node, v_in, "v", layout, heads, "int32")
    if q.size > largest_head():
        raise Unsupported(f"attention between integers with heads of {q.size}", f"at most {largest_head()}")
    inner = Node(node.op, "", 23, node.name, [], {}, [True], [])
    bias, sources = bias_of(inner, "float32", mask, None, q, k, 0)
    p = scores(q, k, float(node.attr("scale")), "float32", 0.0, bias, sources).probabilities
    step, levels = tirx.const(float(node.attr("step")), "float32"), int(node.attr("levels"))

    def code(*i: Index) -> Scalar:
        return to_integer(p(*i) / step, 0, 0, levels, "int32")

    codes = stored(p.shape, "int32", code, [p], "codes")
    return weighted(codes, v, "int32", layout if q_in.ndim == 4 else "packed", "int32")


def _centred(node: Node, t: Tensor, name: str, layout: str, heads: int | None, dtype: str) -> Heads:
    """A side with its zero point taken off, as `dtype`: exact in float32, too."""
    plain = heads_of(t, layout, heads)
    zero = tirx.const(int(node.attr(f"{name}_zero", 0)), "int32")
    return replace(plain, at=lambda *i: (plain.at(*i).astype("int32") - zero).astype(dtype))
