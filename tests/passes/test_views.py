"""Reshapes and transposes in a row."""

import numpy as np
import pytest

from compiler.passes import merge_views, transposes


def test_reshape_of_reshape(graph):
    g = graph(
        "(float[4, 6] x) -> (float[8, 3] y)",
        "a = Reshape(x, s) b = Reshape(a, t) y = Neg(b)",
        s=np.array([2, 12]),
        t=np.array([8, 3]),
    )
    assert g.after(merge_views.run) == ["Reshape", "Neg"]


def test_there_and_back(graph):
    body = "a = Unsqueeze(x, one) b = Reshape(a, s) c = Squeeze(b, zero) y = Neg(c)"
    ints = {"one": np.array([1]), "s": np.array([1, 4, 6]), "zero": np.array([0])}
    g = graph("(float[4, 6] x) -> (float[4, 6] y)", body, **ints)
    assert g.after(merge_views.run) == ["Neg"]
    g.same_as_reference()


def test_transpose_of_axes_of_one(graph):
    g = graph("(float[1, 4, 1, 6] x) -> (float[1, 1, 4, 6] y)", "a = Transpose <perm = [0, 2, 1, 3]> (x) y = Neg(a)")
    assert g.after(merge_views.run) == ["Reshape", "Neg"]
    g.same_as_reference()


def test_true_transpose_stays(graph):
    g = graph("(float[2, 4, 1, 6] x) -> (float[4, 2, 1, 6] y)", "a = Transpose <perm = [1, 0, 2, 3]> (x) y = Neg(a)")
    assert g.after(merge_views.run) == ["Transpose", "Neg"]


def test_output_keeps_its_node(graph):
    g = graph("(float[4, 6] x) -> (float[4, 6] y)", "y = Identity(x)")
    assert g.after(merge_views.run) == ["Identity"]
    g.same_as_reference()


def test_transposes_cancel(graph):
    body = "a = Transpose <perm = [0, 2, 3, 1]> (x) b = Transpose <perm = [0, 3, 1, 2]> (a) y = Neg(b)"
    g = graph("(float[2, 3, 4, 5] x) -> (float[2, 3, 4, 5] y)", body)
    assert g.after(transposes.run) == ["Neg"]


def test_transposes_join(graph):
    body = "a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [0, 2, 1]> (a) c = Transpose(b) y = Neg(c)"
    g = graph("(float[2, 3, 4] x) -> (float[4, 2, 3] y)", body)
    assert g.after(transposes.run) == ["Transpose", "Neg"]
    assert list(g.node("Transpose")["perm"]) == [2, 0, 1]
    g.same_as_reference()


def test_the_first_read_elsewhere(graph):
    body = "a = Transpose <perm = [1, 0]> (x) b = Transpose <perm = [1, 0]> (a) y = Neg(b) z = Neg(a)"
    g = graph("(float[3, 4] x) -> (float[3, 4] y, float[4, 3] z)", body)
    assert g.after(transposes.run).count("Transpose") == 1
    g.same_as_reference()


@pytest.mark.parametrize(
    ("before", "second", "after", "left"),
    [
        ((1, 5, 4), "[0, 2, 3, 1]", (1, 1, 5, 4), ["Reshape", "Neg"]),
        ((1, 5, 4), "[0, 3, 1, 2]", (1, 5, 4, 1), ["Reshape", "Neg"]),
        ((3, 5, 4), "[1, 0, 2, 3]", (4, 3, 1, 5), ["Transpose", "Reshape", "Neg"]),
    ],
)
def test_through_a_view(graph, before, second, after, left):
    """An axis of 1 moves between the transposes; what counts is the order of the long axes."""
    body = f"a = Transpose <perm = [0, 2, 1]> (x) b = Unsqueeze(a, two) c = Transpose <perm = {second}> (b) y = Neg(c)"
    g = graph(f"(float{list(before)} x) -> (float{list(after)} y)", body, two=np.array([2]))
    assert g.after(transposes.run) == left
    g.same_as_reference(rtol=0, atol=0)


def test_a_view_that_regroups_stops(graph):
    body = "a = Transpose <perm = [1, 0]> (x) b = Reshape(a, s) c = Transpose <perm = [1, 0]> (b) y = Neg(c)"
    g = graph("(float[4, 6] x) -> (float[8, 3] y)", body, s=np.array([3, 8]))
    assert g.after(transposes.run) == ["Transpose", "Reshape", "Transpose", "Neg"]
    g.same_as_reference()
