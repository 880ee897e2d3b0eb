"""HardSwish and HardSigmoid in the forms of several exporters."""

import numpy as np
import pytest

from compiler.passes import hardswish

SIGNATURE = "(float[2, 40] x) -> (float[2, 40] y)"
SWISH = {
    "paddle": "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)",
    "sixth on the gate": "a = Add(three, x) b = Clip(a, zero, six) c = Mul(b, sixth) y = Mul(c, x)",
    "relu and min": "a = Add(x, three) r = Relu(a) b = Min(r, six) c = Div(b, six) y = Mul(x, c)",
    "min and max": "a = Add(x, three) r = Max(a, zero) b = Min(six, r) c = Mul(x, b) y = Mul(c, sixth)",
    "relu and clip": "a = Add(x, three) r = Relu(a) b = Clip(r, , six) c = Mul(x, b) y = Div(c, six)",
    "hard sigmoid": "a = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, a)",
}
NUMBERS = {"zero": 0.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6}
GATE = "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)"


def used(body: str, **changed: float) -> dict[str, float]:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in {**NUMBERS, **changed}.items() if name in words}


@pytest.mark.parametrize("form", SWISH)
def test_hardswish(graph, form):
    assert graph(SIGNATURE, SWISH[form], **used(SWISH[form])).after(hardswish.run) == ["HardSwish"]


def test_hardsigmoid(graph):
    g = graph(SIGNATURE, GATE, **used(GATE))
    assert g.after(hardswish.run) == ["HardSigmoid"]
    assert g.node("HardSigmoid")["alpha"] == pytest.approx(1 / 6)
    assert g.node("HardSigmoid")["beta"] == pytest.approx(0.5)
    g.same_as_reference()


@pytest.mark.parametrize("form", ["paddle", "min and max"])
def test_answers(graph, form):
    feeds = {"x": np.linspace(-8, 8, 80, dtype=np.float32).reshape(2, 40)}
    graph(SIGNATURE, SWISH[form], **used(SWISH[form])).same_as_reference(feeds=feeds)


@pytest.mark.parametrize("changed", [{"three": 2.5}, {"six": 5.0}, {"zero": -1.0}])
def test_other_constants_stay(graph, changed):
    g = graph(SIGNATURE, SWISH["paddle"], **used(SWISH["paddle"], **changed))
    assert "HardSwish" not in g.after(hardswish.run)
    g.same_as_reference()


def test_default_hard_sigmoid_is_another_function(graph):
    g = graph(SIGNATURE, "a = HardSigmoid(x) y = Mul(x, a)")
    assert g.after(hardswish.run) == ["HardSigmoid", "Mul"]


def test_gate_of_another_value(graph):
    body = SWISH["paddle"].replace("Mul(x, b)", "Mul(w, b)")
    g = graph("(float[2, 40] x, float[2, 40] w) -> (float[2, 40] y)", body, **used(body))
    assert "HardSwish" not in g.after(hardswish.run)
    g.same_as_reference()


def test_clipped_sum_read_elsewhere(graph):
    body = SWISH["paddle"] + " z = Neg(b)"
    g = graph("(float[2, 40] x) -> (float[2, 40] y, float[2, 40] z)", body, **used(body))
    assert "HardSwish" not in g.after(hardswish.run)
    g.same_as_reference()


def test_plain_relu6_stays(graph):
    body = "y = Clip(x, zero, six)"
    assert graph(SIGNATURE, body, **used(body)).after(hardswish.run) == ["Clip"]
