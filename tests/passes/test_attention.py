"""Attention between Softmax and two products: with and without heads, masks, factors; and what is no attention."""

import numpy as np
import pytest

from compiler.passes import attention, matmul, transposes

BERT = """
    qs = Reshape(q, split) qh = Transpose <perm = [0, 2, 1, 3]> (qs)
    ks = Reshape(k, split) kh = Transpose <perm = [0, 2, 3, 1]> (ks)
    vs = Reshape(v, split) vh = Transpose <perm = [0, 2, 1, 3]> (vs)
    s = MatMul(qh, kh) f = Div(s, root) a = Add(f, mask) p = Softmax <axis = -1> (a)
    c = MatMul(p, vh) t = Transpose <perm = [0, 2, 1, 3]> (c) y = Reshape(t, join)
"""
PACKED = "(float[2, 7, 24] q, float[2, 9, 24] k, float[2, 9, 24] v, float[2, 1, 1, 9] mask) -> (float[2, 7, 24] y)"
HEADS = {"split": np.array([0, 0, 3, 8]), "join": np.array([0, 0, 24]), "root": 8**0.5}
# scores reach some tens, so their rounding (1e-7 of that) is a relative error of 1e-6 and more of the exponentials
ATOL = 1e-5
PLAIN = "(float[2, 3, 7, 8] q, float[2, 3, 9, 8] k, float[2, 3, 9, 8] v) -> (float[2, 3, 7, 8] y)"


def test_bert(graph):
    g = graph(PACKED, BERT, **HEADS)
    assert g.after(matmul.run, attention.run) == ["edgert.Attention"]
    attrs = g.node("Attention")
    assert (attrs["layout"], attrs["num_heads"]) == ("BSHD", 3)
    assert attrs["scale"] == pytest.approx(8**-0.5)
    g.same_as_reference(atol=ATOL)


def test_symbolic_length(graph):
    signature = (
        "(float[1, S, 24] q, float[1, S, 24] k, float[1, S, 24] v, float[1, 1, 1, S] mask) -> (float[1, S, 24] y)"
    )
    g = graph(signature, BERT, dims={"S": (1, 20)}, **HEADS)
    assert g.after(matmul.run, attention.run) == ["edgert.Attention"]
    g.same_as_reference(atol=ATOL)


def test_transposed_twice(graph):
    """Heads first, then the last two axes of K exchanged; both factors ahead of the product."""
    body = BERT.replace(
        "<perm = [0, 2, 3, 1]> (ks)", "<perm = [0, 2, 1, 3]> (ks) kt = Transpose <perm = [0, 1, 3, 2]> (kh)"
    )
    body = body.replace("s = MatMul(qh, kh) f = Div(s, root)", "qf = Mul(qh, r4) kf = Mul(kt, r4) f = MatMul(qf, kf)")
    constants = {"split": HEADS["split"], "join": HEADS["join"], "r4": 8**-0.25}
    g = graph(PACKED, body, **constants)
    assert g.after(matmul.run, attention.run) == ["edgert.Attention"]
    assert g.node("Attention")["scale"] == pytest.approx(8**-0.5)
    g.same_as_reference(atol=ATOL)


def test_heads_first(graph):
    body = "kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) p = Softmax(s) y = MatMul(p, v)"
    g = graph(PLAIN, body)
    assert g.after(matmul.run, attention.run) == ["edgert.Attention"]
    assert (g.node("Attention")["layout"], g.node("Attention")["scale"]) == ("BHSD", 1.0)
    g.same_as_reference(atol=ATOL)


def test_three_axes(graph):
    signature = "(float[6, 7, 8] q, float[6, 9, 8] k, float[6, 9, 8] v, float[6, 7, 9] mask) -> (float[6, 7, 8] y)"
    body = "kt = Transpose <perm = [0, 2, 1]> (k) s = MatMul(q, kt) a = Add(mask, s) p = Softmax(a) y = MatMul(p, v)"
    g = graph(signature, body)
    assert g.after(matmul.run, attention.run)[-1] == "edgert.Attention"
    g.same_as_reference(atol=ATOL)


@pytest.mark.parametrize("where", ["Where(seen, s, never)", "Where(seen, never, s)"])
def test_boolean_mask(graph, where):
    body = f"kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) a = {where} p = Softmax(a) y = MatMul(p, v)"
    g = graph(PLAIN.replace("v)", "v, bool[7, 9] seen)"), body, never=float("-inf"))
    assert "edgert.Attention" in g.after(matmul.run, attention.run)
    mask = np.random.default_rng(1).random((7, 9)) < 0.5
    mask[:, 0], mask[:, 1] = True, False  # every row sees a key, in either sense of the mask
    g.same_as_reference(atol=ATOL, feeds={"seen": mask})


def test_two_masks(graph):
    signature = PLAIN.replace("v)", "v, float[7, 9] m1, float[2, 1, 1, 9] m2)")
    body = """kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) a = Add(s, m1) b = Add(a, m2)
        p = Softmax(b) y = MatMul(p, v)"""
    g = graph(signature, body)
    assert g.after(matmul.run, attention.run) == ["Add", "edgert.Attention"]
    g.same_as_reference(atol=ATOL)


def test_no_transposes_left(graph):
    ops = graph(PACKED, BERT, **HEADS).compiled()
    assert ops == ["edgert.Attention"]


SCORES = "kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) "


@pytest.mark.parametrize(
    "body",
    [
        SCORES + "p = Softmax <axis = 2> (s) y = MatMul(p, v)",
        SCORES + "p = Sigmoid(s) y = MatMul(p, v)",
        SCORES + "a = Add(s, m) b = Mul(a, two) p = Softmax(b) y = MatMul(p, v)",
        SCORES + "a = Where(c, s, two) p = Softmax(a) y = MatMul(p, v)",
    ],
)
def test_others_stay(graph, body):
    constants = {"m": np.float32([0.5] * 9), "two": 2.0, "c": np.arange(9) < 4}
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    g = graph(PLAIN, body, **{name: value for name, value in constants.items() if name in words})
    assert "edgert.Attention" not in g.after(matmul.run, attention.run)
    g.same_as_reference(atol=ATOL)


def test_weights_are_an_output(graph):
    body = "kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) p = Softmax(s) y = MatMul(p, v)"
    g = graph(PLAIN.replace(" y)", " y, float[2, 3, 7, 9] p)"), body)
    assert "edgert.Attention" not in g.after(matmul.run, attention.run)
    g.same_as_reference(atol=ATOL)


def test_scores_read_elsewhere(graph):
    body = "kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul(q, kt) p = Softmax(s) y = MatMul(p, v) z = Neg(s)"
    g = graph(PLAIN.replace(" y)", " y, float[2, 3, 7, 9] z)"), body)
    assert "edgert.Attention" not in g.after(matmul.run, attention.run, transposes.run)
    g.same_as_reference(atol=ATOL)


def test_softmax_whose_result_its_tail_reads_twice(graph):
    """The value's own intermediates are computed once, however often what follows asks for it."""
    g = graph("(float[1, 4, 16] x) -> (float[1, 4, 16] y)", "a = Add(x, x) b = Softmax(a) y = Add(b, b)")
    g.same_as_reference()
