"""DynamicQuantizeLinear trades places with a transpose, so that two transposes meet."""

import numpy as np

from compiler.passes import dynamic_layout, transposes

BODY = """a = Transpose <perm = [0, 2, 3, 1]> (x) q, s, z = DynamicQuantizeLinear(a)
          b = Transpose <perm = [0, 3, 1, 2]> (q) c = Cast <to = 1> (b) y = Mul(c, s)"""
SIGNATURE = "(float[2, 5, 6, 7] x) -> (float[2, 5, 6, 7] y)"


def test_transposes_around_it_go(graph):
    g = graph(SIGNATURE, BODY)
    assert g.after(dynamic_layout.run, transposes.run) == ["DynamicQuantizeLinear", "Cast", "Mul"]


def test_alone_it_stays(graph):
    g = graph(
        "(float[2, 5] x) -> (float[2, 5] y)", "q, s, z = DynamicQuantizeLinear(x) c = Cast <to = 1> (q) y = Mul(c, s)"
    )
    assert g.after(dynamic_layout.run) == ["DynamicQuantizeLinear", "Cast", "Mul"]


def test_answers(graph):
    # the same range, the same bytes: equal
    graph(SIGNATURE, BODY).same_as_reference(
        rtol=0, atol=0, feeds={"x": np.arange(420, dtype=np.float32).reshape(2, 5, 6, 7)}
    )
