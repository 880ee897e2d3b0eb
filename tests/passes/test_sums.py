"""Reductions written in two steps."""

import numpy as np
import pytest

from compiler.passes import outer_products, sums

SIGNATURE = "(float[3, 40] x) -> (float[3, 1] y)"
AXIS = np.array([1])


def test_sum_of_squares(graph):
    g = graph(SIGNATURE, "a = Mul(x, x) y = ReduceSum(a, axis)", axis=AXIS)
    assert g.after(sums.run) == ["ReduceSumSquare"]
    g.same_as_reference()


@pytest.mark.parametrize("body", ["s = ReduceSum(x, axis) y = Mul(s, c)", "s = ReduceSum(x, axis) y = Mul(c, s)"])
def test_mean(graph, body):
    g = graph(SIGNATURE, body, axis=AXIS, c=1 / 40)
    assert g.after(sums.run) == ["ReduceMean"]
    g.same_as_reference()


def test_mean_by_division(graph):
    g = graph(SIGNATURE, "s = ReduceSum(x, axis) y = Div(s, c)", axis=AXIS, c=40.0)
    assert g.after(sums.run) == ["ReduceMean"]


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_mean_of_squares(graph, opset):
    reduce = "ReduceMean(a, axis)" if opset >= 18 else "ReduceMean <axes = [1]> (a)"
    g = graph(SIGNATURE, f"a = Mul(x, x) y = {reduce}", opset=opset, **({"axis": AXIS} if opset >= 18 else {}))
    assert g.after(sums.run) == ["ReduceSumSquare", "Div"]
    g.same_as_reference()


@pytest.mark.parametrize("body", ["s = ReduceSum(x, axis) y = Mul(s, c)", "s = ReduceSum(x, axis) y = Div(s, c)"])
def test_other_factors_stay(graph, body):
    g = graph(SIGNATURE, body, axis=AXIS, c=0.5)
    assert g.after(sums.run)[0] == "ReduceSum"
    g.same_as_reference()


def test_squares_read_elsewhere(graph):
    g = graph("(float[3, 40] x) -> (float[3, 1] y, float[3, 40] a)", "a = Mul(x, x) y = ReduceSum(a, axis)", axis=AXIS)
    assert g.after(sums.run) == ["Mul", "ReduceSum"]


def test_product_of_two(graph):
    signature = "(float[3, 40] x, float[3, 40] z) -> (float[3, 1] y)"
    assert graph(signature, "a = Mul(x, z) y = ReduceSum(a, axis)", axis=AXIS).after(sums.run) == ["Mul", "ReduceSum"]


def test_outer_product(graph):
    signature = "(float[3, 40] x, float[3, 1] r, float[1, 40] c) -> (float[3, 40] y)"
    g = graph(signature, "o = Mul(r, c) a = Mul(x, o) y = Neg(a)")
    assert g.after(outer_products.run) == ["Mul", "Mul", "Neg"]
    first, second, _ = g.edited.graph
    assert {v.name for v in first.inputs} == {"x", "r"}
    assert {v.name for v in second.inputs} == {first.outputs[0].name, "c"}
    g.same_as_reference()


def test_product_of_equal_shapes_stays(graph):
    signature = "(float[3, 40] x, float[3, 40] r, float[1, 40] c) -> (float[3, 40] y)"
    g = graph(signature, "o = Mul(r, c) y = Mul(x, o)")
    g.after(outer_products.run)
    assert {v.name for v in next(iter(g.edited.graph)).inputs} == {"r", "c"}


def test_outer_product_that_makes_the_shape_stays(graph):
    """x itself is smaller: one of the products has to be the large one anyway."""
    signature = "(float[1, 1] x, float[3, 1] r, float[1, 40] c) -> (float[3, 40] y)"
    g = graph(signature, "o = Mul(r, c) y = Mul(x, o)")
    g.after(outer_products.run)
    assert {v.name for v in next(iter(g.edited.graph)).inputs} == {"r", "c"}
