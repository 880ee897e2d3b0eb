"""Products of two quantized values: integer sums, and ONNX Runtime's answers but for ties."""

import numpy as np
import pytest

STEP = 0.0371
QUANTIZED = """aq = QuantizeLinear(a, as, az) af = DequantizeLinear(aq, as, az)
    bq = QuantizeLinear(b, bs, bz) bf = DequantizeLinear(bq, bs, bz) """
END = " yq = QuantizeLinear(c, ys, yz) y = DequantizeLinear(yq, ys, yz)"


def constants(kind: str, result: bool = True) -> dict[str, np.ndarray]:
    low = np.iinfo(kind).min
    given = {"a": (0.031, 120), "b": (0.027, 131)} | ({"y": (STEP, 127)} if result else {})
    scales = {f"{name}s": np.float32(scale) for name, (scale, _) in given.items()}
    return scales | {f"{name}z": np.array(zero + low, kind) for name, (_, zero) in given.items()}


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("between", ["c = MatMul(af, bf)", "m = MatMul(af, bf) c = Relu(m)"])
def test_quantized_result(graph, kind, between):
    signature = "(float[2, 7, 13] a, float[2, 13, 19] b) -> (float[2, 7, 19] y)"
    g = graph(signature, QUANTIZED + between + END, **constants(kind))
    left = g.compiled()
    assert "edgert.MatMulInteger" in left and "edgert.Requantize" in left
    assert not {"MatMul", "edgert.MatMul", "Relu"} & set(left)
    g.same_as_reference(atol=STEP * 1.001, rtol=0)


def test_transposed_side_and_floats_behind(graph):
    body = QUANTIZED + "bt = Transpose <perm = [0, 2, 1]> (bf) c = MatMul(af, bt) y = Tanh(c)"
    signature = "(float[2, S, 16] a, float[2, T, 16] b) -> (float[2, S, T] y)"
    g = graph(signature, body, dims={"S": (1, 9), "T": (1, 40)}, **constants("uint8", result=False))
    left = g.compiled()
    assert "edgert.MatMulInteger" in left and "edgert.Rescale" in left and "Transpose" not in left
    g.same_as_reference(rtol=1e-5, atol=1e-5)
