"""Matrix products in the compiler's two forms."""

import numpy as np
import pytest

from compiler.passes import matmul

W = np.random.default_rng(13).standard_normal((8, 5)).astype(np.float32)
CLOSE = {"atol": 1e-5}  # sums of 8 products of numbers around 2


@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8), (2, 1, 3, 8)])
def test_constant_right_side(graph, shape):
    g = graph(f"(float{list(shape)} x) -> (float{[*shape[:-1], 5]} y)", "y = MatMul(x, w)", w=W)
    assert g.after(matmul.run) == ["edgert.Gemm"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize(
    ("attrs", "left"),
    [
        ("", ["edgert.Gemm", "Add"]),
        ("<beta = 0.5>", ["edgert.Gemm", "Add"]),
        ("<beta = 0.0>", ["edgert.Gemm"]),
        ("<alpha = 2.0>", ["Gemm"]),
    ],
)
def test_gemm(graph, attrs, left):
    g = graph("(float[3, 8] x) -> (float[3, 5] y)", f"y = Gemm {attrs} (x, w, b)", w=W, b=np.float32([1, 2, 3, 4, 5]))
    g.compiled()
    assert [op for op in g.after(matmul.run) if op != "Mul"] == left
    g.same_as_reference(**CLOSE)


def test_transposed_gemm(graph):
    g = graph("(float[3, 8] x) -> (float[3, 5] y)", "y = Gemm <transB = 1> (x, w)", w=np.ascontiguousarray(W.T))
    assert g.after(matmul.run) == ["edgert.Gemm"]
    assert g.node("Gemm")["transB"] == 1
    g.same_as_reference(**CLOSE)


def test_transposes_go_inside(graph):
    body = "s = Transpose <perm = [0, 2, 1]> (a) t = Transpose <perm = [0, 2, 1]> (b) y = MatMul(s, t)"
    g = graph("(float[2, 8, 3] a, float[2, 5, 8] b) -> (float[2, 3, 5] y)", body)
    assert g.after(matmul.run) == ["edgert.MatMul"]
    assert (g.node("MatMul")["transA"], g.node("MatMul")["transB"]) == (1, 1)
    g.same_as_reference(**CLOSE)


def test_other_transposes_stay(graph):
    body = "s = Transpose <perm = [1, 0, 2]> (a) y = MatMul(s, b)"
    g = graph("(float[3, 2, 8] a, float[2, 8, 5] b) -> (float[2, 3, 5] y)", body)
    assert g.after(matmul.run) == ["Transpose", "edgert.MatMul"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize(
    "signature", ["(float[8] a, float[8, 5] b) -> (float[5] y)", "(float[3, 8] a, float[8] b) -> (float[3] y)"]
)
def test_vectors(graph, signature):
    g = graph(signature, "y = MatMul(a, b)")
    assert g.after(matmul.run) == ["MatMul"]
    g.same_as_reference(**CLOSE)


def test_double_precision_stays(graph):
    g = graph("(double[3, 8] a, double[8, 5] b) -> (double[3, 5] y)", "y = MatMul(a, b)")
    assert g.after(matmul.run) == ["MatMul"]
    g.same_as_reference(rtol=1e-12, atol=1e-12)
