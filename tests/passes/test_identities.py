"""Nodes that do nothing go; those that only nearly do nothing stay."""

import numpy as np
import pytest

from compiler.passes import identities

SIGNATURE = "(float[2, 6] x) -> (float[2, 6] y)"
INTS = {"shape": np.array([2, 6]), "zeros": np.array([0, 0]), "ends": np.array([99, 99]), "ones": np.array([1, 1])}
NOTHING = {
    "expand": "a = Expand(x, shape) y = Neg(a)",
    "cast": "a = Cast <to = 1> (x) y = Neg(a)",
    "slice": "a = Slice(x, zeros, ends) y = Neg(a)",
    "tile": "a = Tile(x, ones) y = Neg(a)",
    "pad": "a = Pad(x, four) y = Neg(a)",
    "concat of one": "a = Concat <axis = 0> (x) y = Neg(a)",
    "sum of one": "a = Sum(x) y = Neg(a)",
    "transpose": "a = Transpose <perm = [0, 1]> (x) y = Neg(a)",
    "times one": "a = Mul(x, one) b = Mul(one, a) y = Neg(b)",
    "by one": "a = Div(x, one) y = Neg(a)",
    "dropout": "a = Dropout(x, half) y = Neg(a)",
    "dropout, said": "a = Dropout(x, half, no) y = Neg(a)",
    "dropout with mask": "a, m = Dropout(x) y = Neg(a)",
    "plus zero": "a = Add(x, zero) b = Sub(a, zero) y = Neg(b)",
}
SOMETHING = {
    "reversed": ("a = Slice(x, ends, starts, axes, steps) y = Neg(a)", "Slice"),
    "shifted": ("a = Pad(x, shift) y = Neg(a)", "Pad"),
    "spread": ("a = Mul(x, wide) y = Neg(a)", "Mul"),
    "one over": ("a = Div(one, x) y = Neg(a)", "Div"),
    "zero minus": ("a = Sub(zero, x) y = Neg(a)", "Sub"),
    "half": ("a = Cast <to = 10> (x) b = Cast <to = 1> (a) y = Neg(b)", "Cast"),
}
OTHER = {
    "one": 1.0, "zero": 0.0, "half": 0.5, "no": np.array(False),
    "four": np.zeros(4, np.int64), "shift": np.array([0, 1, 0, -1]),
    "wide": np.full((1, 6), 2, np.float32),
    "starts": np.array([-99, -99]), "axes": np.array([0, 1]), "steps": np.array([-1, -1]),
}  # fmt: skip


def used(body: str) -> dict:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in {**INTS, **OTHER}.items() if name in words}


@pytest.mark.parametrize("form", NOTHING)
def test_nothing(graph, form):
    assert graph(SIGNATURE, NOTHING[form], **used(NOTHING[form])).after(identities.run) == ["Neg"]


@pytest.mark.parametrize("form", SOMETHING)
def test_something(graph, form):
    body, op = SOMETHING[form]
    g = graph(SIGNATURE, body, **used(body))
    assert op in g.after(identities.run)
    g.same_as_reference(atol=2e-3 if form == "half" else 1e-6)


def test_broadcasting_one_changes_the_shape(graph):
    g = graph("(float[1, 6] x) -> (float[3, 6] y)", "a = Mul(x, o) y = Neg(a)", o=np.ones((3, 6), np.float32))
    assert g.after(identities.run) == ["Mul", "Neg"]


def test_output_keeps_its_node(graph):
    assert graph(SIGNATURE, "y = Cast <to = 1> (x)").after(identities.run) == ["Cast"]


@pytest.mark.parametrize(
    "body", ["a = Relu(x) y = Relu(a)", "a = Clip(x, zero, one) y = Relu(a)", "a = Sigmoid(x) y = Relu(a)"]
)
def test_relu_of_what_is_not_negative(graph, body):
    g = graph(SIGNATURE, body.replace("y =", "b =") + " y = Neg(b)", **used(body))
    assert len(g.after(identities.run)) == 2
    g.same_as_reference()


def test_relu_of_a_shifted_clip_stays(graph):
    g = graph(SIGNATURE, "a = Clip(x, low) b = Relu(a) y = Neg(b)", low=-1.0)
    assert g.after(identities.run) == ["Clip", "Relu", "Neg"]


def test_expand_ahead_of_broadcasting(graph):
    signature = "(float[2, 1] x, float[2, 6] z) -> (float[2, 6] y)"
    g = graph(signature, "a = Expand(x, shape) y = Add(a, z)", shape=INTS["shape"])
    assert g.after(identities.run) == ["Add"]
    g.same_as_reference()


def test_expand_that_gives_the_shape_stays(graph):
    g = graph(
        "(float[2, 1] x, float[6] z) -> (float[3, 2, 6] y)",
        "a = Expand(x, wide) y = Add(a, z)",
        wide=np.array([3, 2, 6]),
    )
    assert g.after(identities.run) == ["Expand", "Add"]
    g.same_as_reference()


def test_division_by_a_power_of_two(graph):
    g = graph(SIGNATURE, "y = Div(x, c)", c=np.float32([0.25, 8, 1, 2, 512, -4]))
    assert g.after(identities.run) == ["Mul"]
    g.same_as_reference(rtol=0, atol=0)


@pytest.mark.parametrize("divisor", [3.0, 0.0, 1e-45, 2.0**127])
def test_other_divisions_stay(graph, divisor):
    """Where the reciprocal is rounded, infinite or subnormal."""
    assert graph(SIGNATURE, "y = Div(x, c)", c=divisor).after(identities.run) == ["Div"]


def test_squares_and_cubes(graph):
    g = graph(SIGNATURE, "a = Pow(x, two) b = Pow(x, three) y = Add(a, b)", two=2.0, three=3.0)
    assert g.after(identities.run) == ["Mul", "Mul", "Mul", "Add"]
    g.same_as_reference(atol=1e-5)
