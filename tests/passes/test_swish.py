"""Swish and Mish."""

import pytest

from compiler.passes import swish

SIGNATURE = "(float[2, 40] x) -> (float[2, 40] y)"


@pytest.mark.parametrize("body", ["s = Sigmoid(x) y = Mul(x, s)", "s = Sigmoid(x) y = Mul(s, x)"])
def test_swish(graph, body):
    g = graph(SIGNATURE, body)
    assert g.after(swish.run) == ["Swish"]
    assert g.node("Swish")["alpha"] == 1.0


def test_quick_gelu(graph):
    g = graph(SIGNATURE, "a = Mul(x, k) s = Sigmoid(a) y = Mul(x, s)", k=1.702)
    assert g.after(swish.run) == ["Swish"]
    assert g.node("Swish")["alpha"] == pytest.approx(1.702)
    g.same_as_reference()


def test_mish(graph):
    g = graph(SIGNATURE, "a = Softplus(x) t = Tanh(a) y = Mul(x, t)")
    assert g.after(swish.run) == ["Mish"]
    g.same_as_reference()


@pytest.mark.parametrize(
    "body",
    ["a = Add(x, k) s = Sigmoid(a) y = Mul(x, s)", "a = Mul(x, x) s = Sigmoid(a) y = Mul(x, s)",
     "s = Sigmoid(x) t = Mul(s, k) y = Mul(t, x)", "a = Neg(x) s = Sigmoid(x) b = Mul(a, s) y = Mul(b, k)"],
)  # fmt: skip
def test_others_stay(graph, body):
    g = graph(SIGNATURE, body, k=1.5) if "k" in body else graph(SIGNATURE, body)
    assert not {"Swish", "Mish"} & set(g.after(swish.run))
    g.same_as_reference()


def test_gate_is_an_output(graph):
    g = graph("(float[2, 40] x) -> (float[2, 40] y, float[2, 40] s)", "s = Sigmoid(x) y = Mul(x, s)")
    assert g.after(swish.run) == ["Sigmoid", "Mul"]
    g.same_as_reference()
