"""GELU in the orders that exporters write it, and what only looks like it."""

import math

import numpy as np
import pytest

from compiler.passes import gelu

SIGNATURE = "(float[3, 33] x) -> (float[3, 33] y)"
ERF = {
    "torch": "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
    "half first": "h = Mul(half, x) a = Mul(x, q) b = Erf(a) c = Add(one, b) y = Mul(h, c)",
    "half behind the sum": "a = Mul(q, x) b = Erf(a) c = Add(one, b) d = Mul(c, half) y = Mul(d, x)",
    "by two": "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)",
    "half inside": "a = Div(x, r) b = Erf(a) c = Mul(b, half) d = Add(c, half) y = Mul(d, x)",
}
TANH = {
    "pow": """p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c)
        d = Add(t, one) e = Mul(x, half) y = Mul(e, d)""",
    "jax": """a = Mul(k, x) b = Mul(x, a) c = Mul(x, b) d = Add(x, c) e = Mul(s, d) t = Tanh(e)
        f = Add(one, t) g = Mul(half, f) y = Mul(x, g)""",
    "fast": """a = Mul(x, k) b = Mul(a, x) c = Add(b, one) d = Mul(x, s) e = Mul(d, c) t = Tanh(e)
        f = Add(t, one) g = Mul(x, f) y = Mul(g, half)""",
}
NUMBERS = {
    "r": math.sqrt(2), "q": math.sqrt(0.5), "one": 1.0, "half": 0.5, "two": 2.0, "three": 3.0, "k": 0.044715,
    "s": math.sqrt(2 / math.pi),
}  # fmt: skip


def used(body: str, **changed: float) -> dict[str, float]:
    """The constants a body names."""
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in {**NUMBERS, **changed}.items() if name in words}


@pytest.mark.parametrize("form", ERF)
def test_exact(graph, form):
    g = graph(SIGNATURE, ERF[form], **used(ERF[form]))
    assert g.after(gelu.run) == ["Gelu"]
    assert g.node("Gelu")["approximate"] == "none"


@pytest.mark.parametrize("form", TANH)
def test_approximate(graph, form):
    g = graph(SIGNATURE, TANH[form], **used(TANH[form]))
    assert g.after(gelu.run) == ["Gelu"]
    assert g.node("Gelu")["approximate"] == "tanh"


@pytest.mark.parametrize("body", [ERF["torch"], TANH["jax"]])
def test_answers(graph, body):
    graph(SIGNATURE, body, **used(body)).same_as_reference(atol=1e-6)


@pytest.mark.parametrize(
    ("body", "changed"),
    [(ERF["torch"], {"r": 1.4}), (ERF["torch"], {"one": 1.001}), (ERF["torch"], {"half": 0.25}),
     (TANH["pow"], {"k": 0.05}), (TANH["pow"], {"s": 0.8}), (TANH["pow"], {"three": 2.0})],
)  # fmt: skip
def test_other_constants_stay(graph, body, changed):
    g = graph(SIGNATURE, body, **used(body, **changed))
    assert "Gelu" not in g.after(gelu.run)
    g.same_as_reference()


def test_inside_read_elsewhere(graph):
    body = ERF["torch"] + " z = Neg(c)"
    g = graph("(float[3, 33] x) -> (float[3, 33] y, float[3, 33] z)", body, **used(body))
    assert "Gelu" not in g.after(gelu.run)
    g.same_as_reference()


def test_inside_is_an_output(graph):
    g = graph("(float[3, 33] x) -> (float[3, 33] y, float[3, 33] b)", ERF["torch"], **used(ERF["torch"]))
    assert "Gelu" not in g.after(gelu.run)


def test_another_factor(graph):
    body = "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(w, c) y = Mul(d, half)"
    g = graph("(float[3, 33] x, float[3, 33] w) -> (float[3, 33] y)", body, **used(body))
    assert "Gelu" not in g.after(gelu.run)


def test_two_in_a_row(graph):
    body = ERF["torch"] + " h2 = Mul(half, y) a2 = Mul(y, q) b2 = Erf(a2) c2 = Add(one, b2) z = Mul(h2, c2)"
    g = graph("(float[3, 33] x) -> (float[3, 33] z)", body, **used(body))
    assert g.after(gelu.run) == ["Gelu", "Gelu"]
    g.same_as_reference()


def test_half_precision_stays(graph):
    body = ERF["torch"]
    g = graph(SIGNATURE.replace("float[", "float16["), body, **{k: np.float16(v) for k, v in used(body).items()})
    assert "Gelu" not in g.after(gelu.run)
