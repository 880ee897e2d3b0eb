"""Layer and RMS normalisation in the forms of several exporters, and what is neither."""

import numpy as np
import pytest

from compiler.passes import common_subexpressions, layer_norm

SIGNATURE = "(float[2, 5, 48] x) -> (float[2, 5, 48] y)"
HEAD = "m = ReduceMean <keepdims = 1> (x, last) d = Sub(x, m) "
VARIANCE = "p = Pow(d, two) v = ReduceMean <keepdims = 1> (p, last) e = Add(v, eps) "
TAIL = "n = Div(d, s) g = Mul(n, w) y = Add(g, b)"
LAYER = {
    "torch": HEAD + VARIANCE + "s = Sqrt(e) " + TAIL,
    "product": HEAD + "p = Mul(d, d) v = ReduceMean(p, last) e = Add(eps, v) s = Sqrt(e) " + TAIL,
    "reciprocal": HEAD + VARIANCE + "s = Sqrt(e) r = Reciprocal(s) n = Mul(d, r) g = Mul(w, n) y = Add(b, g)",
    "one over": HEAD + VARIANCE + "s = Sqrt(e) r = Div(one, s) n = Mul(r, d) g = Mul(n, w) y = Add(g, b)",
    "powers": HEAD + VARIANCE + "s = Pow(e, half) " + TAIL,
    "inverse power": HEAD + VARIANCE + "r = Pow(e, minus) n = Mul(d, r) g = Mul(n, w) y = Add(g, b)",
    "scale first": HEAD + VARIANCE + "s = Sqrt(e) r = Reciprocal(s) g = Mul(r, w) n = Mul(d, g) y = Add(n, b)",
    "twice": HEAD + "d2 = Sub(x, m) p = Pow(d2, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) " + TAIL,
}  # fmt: skip
RMS = {
    "llama": """p = Pow(x, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e)
        r = Div(one, s) n = Mul(x, r) y = Mul(w, n)""",
    "division": "p = Mul(x, x) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) n = Div(x, s) y = Mul(n, w)",
}
CONSTANTS = {
    "last": np.array([-1]), "two": 2.0, "one": 1.0, "half": 0.5, "minus": -0.5, "eps": 1e-5,
    "w": np.linspace(0.5, 2, 48, dtype=np.float32), "b": np.linspace(-1, 1, 48, dtype=np.float32),
}  # fmt: skip


def used(body: str, **changed: object) -> dict:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in {**CONSTANTS, **changed}.items() if name in words}


@pytest.mark.parametrize("form", LAYER)
def test_layer_norm(graph, form):
    g = graph(SIGNATURE, LAYER[form], **used(LAYER[form]))
    assert g.after(common_subexpressions.run, layer_norm.run) == ["LayerNormalization"]
    assert g.node("LayerNormalization")["epsilon"] == pytest.approx(1e-5)
    assert g.node("LayerNormalization")["axis"] == -1


@pytest.mark.parametrize("form", RMS)
def test_rms_norm(graph, form):
    g = graph(SIGNATURE, RMS[form], **used(RMS[form]))
    assert g.after(layer_norm.run) == ["RMSNormalization"]


@pytest.mark.parametrize("body", [LAYER["torch"], LAYER["scale first"], RMS["llama"]])
def test_answers(graph, body):
    # results are of size 1 to 5, and sums over 48 elements lose a few of float32's 24 bits
    graph(SIGNATURE, body, **used(body)).same_as_reference(rtol=1e-5, atol=1e-5)


def test_two_axes(graph):
    g = graph(SIGNATURE, LAYER["torch"], **used(LAYER["torch"], last=np.array([1, 2])))
    assert g.after(layer_norm.run) == ["LayerNormalization"]
    assert g.node("LayerNormalization")["axis"] == -2
    g.same_as_reference(atol=1e-5)


def test_without_scale_and_bias(graph):
    body = HEAD + VARIANCE + "s = Sqrt(e) y = Div(d, s)"
    g = graph(SIGNATURE, body, **used(body))
    assert g.after(layer_norm.run) == ["LayerNormalization"]
    g.same_as_reference(atol=1e-5)


def test_scalar_scale_spreads(graph):
    g = graph(SIGNATURE, LAYER["torch"], **used(LAYER["torch"], w=np.float32([1.5]), b=0.25))
    assert g.after(layer_norm.run) == ["LayerNormalization"]
    g.same_as_reference(atol=1e-5)


def test_axes_as_attribute(graph):
    body = LAYER["torch"].replace("<keepdims = 1> (x, last)", "<axes = [-1]> (x)")
    body = body.replace("<keepdims = 1> (p, last)", "<axes = [2]> (p)")
    assert graph(SIGNATURE, body, opset=17, **used(body)).after(layer_norm.run) == ["LayerNormalization"]


@pytest.mark.parametrize(
    ("body", "changed"),
    [(LAYER["torch"], {"two": 3.0}), (LAYER["torch"], {"last": np.array([1])}),
     (LAYER["torch"].replace("Sqrt(e)", "Exp(e)"), {}),
     (LAYER["torch"].replace("n = Div(d, s)", "n = Div(s, d)"), {})],
)  # fmt: skip
def test_others_stay(graph, body, changed):
    g = graph(SIGNATURE, body, **used(body, **changed))
    assert not {"LayerNormalization", "RMSNormalization"} & set(g.after(layer_norm.run))
    g.same_as_reference(rtol=1e-4, atol=1e-5)


def test_means_over_different_axes(graph):
    """The deviation over the last axis of something centred over another is a root mean square, not a layer norm."""
    body = LAYER["torch"].replace("(x, last)", "(x, middle)")
    g = graph(SIGNATURE, body, **used(body), middle=np.array([1]))
    assert "LayerNormalization" not in g.after(layer_norm.run)
    g.same_as_reference(atol=1e-5)


def test_full_scale_is_no_scale(graph):
    """Of the input's own shape: a product with something else."""
    body = LAYER["torch"].replace("Mul(n, w)", "Mul(n, z)")
    g = graph("(float[2, 5, 48] x, float[2, 5, 48] z) -> (float[2, 5, 48] y)", body, **used(body))
    assert g.after(layer_norm.run) == ["LayerNormalization", "Mul", "Add"]
    g.same_as_reference(atol=1e-5)


def test_centred_value_read_elsewhere(graph):
    """What is left to recognise is the root mean square of the difference."""
    body = LAYER["torch"] + " z = Neg(d)"
    g = graph("(float[2, 5, 48] x) -> (float[2, 5, 48] y, float[2, 5, 48] z)", body, **used(body))
    assert "LayerNormalization" not in g.after(layer_norm.run)
    g.same_as_reference(atol=1e-5)


def test_variance_is_an_output(graph):
    g = graph("(float[2, 5, 48] x) -> (float[2, 5, 48] y, float[2, 5, 1] v)", LAYER["torch"], **used(LAYER["torch"]))
    assert not {"LayerNormalization", "RMSNormalization"} & set(g.after(layer_norm.run))
