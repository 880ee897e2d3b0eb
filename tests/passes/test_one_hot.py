"""Products with one-hot rows become lookups."""

import numpy as np
import pytest

from compiler.passes import one_hot, tables

SIGNATURE = "(int32[2, 7] i) -> (float[2, 7, 5] y)"
BODY = "u = Unsqueeze(i, last) e = Equal(u, r) h = Cast <to = 1> (e) y = MatMul(h, w)"
TABLE = np.random.default_rng(3).standard_normal((6, 5)).astype(np.float32)
CONSTANTS = {"last": np.array([-1]), "r": np.arange(6, dtype=np.int32).reshape(1, 1, 6), "w": TABLE}


def test_lookup(graph):
    g = graph(SIGNATURE, BODY, **CONSTANTS)
    assert "MatMul" not in g.after(one_hot.run)
    rows = np.array([[0, 1, 2, 3, 4, 5, 5], [-1, 6, -7, 99, 3, 0, -6]], np.int32)
    g.same_as_reference(feeds={"i": rows}, rtol=0, atol=0)


def test_bytes(graph):
    g = graph(SIGNATURE.replace("int32", "uint8"), BODY, **{**CONSTANTS, "r": CONSTANTS["r"].astype(np.uint8)})
    assert "Gather" in g.after(one_hot.run)
    g.same_as_reference(
        feeds={"i": np.array([[0, 1, 2, 3, 4, 5, 6], [255, 128, 1, 1, 1, 1, 1]], np.uint8)}, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "changed",
    [{"r": np.array([[[0, 1, 2, 3, 5, 4]]], np.int32)}, {"w": np.where(TABLE > 1, np.float32(np.inf), TABLE)}],
)
def test_others_stay(graph, changed):
    """Another order of classes; a table in which zero times an entry is not zero."""
    assert "MatMul" in graph(SIGNATURE, BODY, **{**CONSTANTS, **changed}).after(one_hot.run)


def test_table_takes_what_follows(graph):
    body = "g = Gather(w, i) a = Add(g, b) c = Mul(two, a) y = Relu(c)"
    g = graph("(int64[20] i) -> (float[20, 5] y)", body, w=TABLE, b=np.float32([1, 2, 3, 4, 5]), two=2.0)
    assert [op for op in g.compiled() if op != "Reshape"] == ["Gather"]
    g.same_as_reference(feeds={"i": np.arange(20) % 6})


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("(int64[3] i) -> (float[3, 5] y)", "g = Gather(w, i) y = Relu(g)"),  # fewer lookups than rows
        ("(int64[20] i) -> (float[20, 5] y)", "g = Gather(w, i) y = Add(g, b)"),  # a constant per lookup
        ("(int64[20] i, float[5] z) -> (float[20, 5] y)", "g = Gather(w, i) y = Add(g, z)"),
        ("(int64[20] i) -> (float[20, 5] y, float[20, 5] g)", "g = Gather(w, i) y = Relu(g)"),
    ],
)
def test_tables_that_stay(graph, signature, body):
    constants = {"b": np.ones((20, 5), np.float32)} if "b)" in body else {}
    g = graph(signature, body, w=TABLE, **constants)
    assert len(g.after(tables.run)) == 2
    g.same_as_reference(feeds={"i": np.arange(3 if "[3]" in signature else 20) % 6})
