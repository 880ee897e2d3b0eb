"""One-dimensional convolutions and pools as rows of images, and the views that this leaves."""

import numpy as np
import pytest

from compiler.passes import merge_views, rows, sink_views

RNG = np.random.default_rng(11)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


ONE_AXIS = {
    "conv": ("y = Conv <pads = [2, 1], strides = [2]> (x, w)", {"w": random(6, 4, 3)}, (1, 6, 10)),
    "grouped": ("y = Conv <group = 2, dilations = [2]> (x, w, b)", {"w": random(6, 2, 3), "b": random(6)}, (1, 6, 15)),
    "same": ('y = Conv <auto_pad = "SAME_UPPER", strides = [2]> (x, w)', {"w": random(6, 4, 4)}, (1, 6, 10)),
    "transposed": ("y = ConvTranspose <strides = [2], output_padding = [1]> (x, w)", {"w": random(4, 6, 3)},
                   (1, 6, 40)),
    "max": ("y = MaxPool <kernel_shape = [3], strides = [2], pads = [1, 1]> (x)", {}, (1, 4, 10)),
    "average": ("y = AveragePool <kernel_shape = [4], strides = [3], ceil_mode = 1> (x)", {}, (1, 4, 6)),
}  # fmt: skip


@pytest.mark.parametrize("form", ONE_AXIS)
def test_one_axis(graph, form):
    body, constants, shape = ONE_AXIS[form]
    op = body.split()[2].split("(")[0]
    g = graph(f"(float[1, 4, 19] x) -> (float{list(shape)} y)", body, **constants)
    assert g.after(rows.run) == ["Unsqueeze", op, "Squeeze"]
    # sums over up to 16 products of numbers around 2
    g.same_as_reference(atol=1e-5)


def test_columns(graph):
    body = "y = Conv <pads = [1, 0, 0, 0], strides = [2, 1]> (x, w)"
    g = graph("(float[1, 4, 9, 1] x) -> (float[1, 6, 4, 1] y)", body, w=random(6, 4, 3, 1))
    assert g.after(rows.run) == ["Squeeze", "Unsqueeze", "Conv", "Squeeze", "Unsqueeze"]
    assert list(g.node("Conv")["pads"]) == [0, 1, 0, 0]
    g.same_as_reference(atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "body", "kernel"),
    [
        ("(float[1, 4, 9, 2] x) -> (float[1, 6, 7, 2] y)", "y = Conv(x, w)", (3, 1)),
        ("(float[1, 4, 9, 1] x) -> (float[1, 6, 7, 2] y)", "y = Conv <pads = [0, 1, 0, 0]> (x, w)", (3, 1)),
        ("(float[1, 4, 9, 1] x) -> (float[1, 6, 7, 1] y)", "y = Conv <pads = [0, 1, 0, 1]> (x, w)", (3, 3)),
        ("(float[1, 4, 1, 1] x) -> (float[1, 6, 1, 1] y)", "y = Conv(x, w)", (1, 1)),
    ],
)
def test_images_stay(graph, signature, body, kernel):
    g = graph(signature, body, w=random(6, 4, *kernel))
    assert g.after(rows.run) == ["Conv"]
    g.same_as_reference(atol=1e-5)


def test_weights_computed_at_run_time_stay(graph):
    g = graph("(float[1, 4, 9] x, float[6, 4, 3] w) -> (float[1, 6, 7] y)", "y = Conv(x, w)")
    assert g.after(rows.run) == ["Conv"]


def test_a_stack_has_views_at_its_ends_only(graph):
    body = "a = Conv(x, v) b = Relu(a) c = Add(b, k) d = Conv(c, w) e = Sigmoid(d) y = GlobalMaxPool(e)"
    g = graph("(float[1, 4, 19] x) -> (float[1, 6, 1] y)", body, v=random(5, 4, 3), w=random(6, 5, 3), k=random(5, 1))
    wanted = ["Unsqueeze", "Conv", "Relu", "Add", "Conv", "Sigmoid", "GlobalMaxPool", "Reshape"]
    assert g.after(rows.run, sink_views.run, merge_views.run) == wanted
    assert g.compiled().count("Transpose") == 1
    g.same_as_reference(atol=1e-5)


def test_branches_meet_again(graph):
    """Two slices of the channels, each squared, summed: a short-time Fourier transform's magnitude."""
    body = """c = Conv(x, w) p = Slice(c, zero, three, one) q = Slice(c, three, six, one)
        a = Mul(p, p) b = Mul(q, q) s = Add(a, b) y = Sqrt(s)"""
    ints = {"zero": np.array([0]), "three": np.array([3]), "six": np.array([6]), "one": np.array([1])}
    g = graph("(float[1, 4, 19] x) -> (float[1, 3, 17] y)", body, w=random(6, 4, 3), **ints)
    wanted = ["Unsqueeze", "Conv", "Slice", "Slice", "Mul", "Mul", "Add", "Sqrt", "Reshape"]
    assert sorted(g.after(rows.run, sink_views.run, merge_views.run)) == sorted(wanted)
    g.same_as_reference(atol=1e-5)


@pytest.mark.parametrize(
    ("tail", "shape"),
    [("y = Softmax <axis = 1> (c)", (1, 6, 17)), ("y = Add(c, z)", (1, 6, 17)), ("y = Add(c, wide)", (2, 6, 17)),
     ("y = Slice(c, zero, six, two)", (1, 6, 6))],
)  # fmt: skip
def test_readers_that_stop_the_view(graph, tail, shape):
    constants = {"wide": random(2, 6, 1), "zero": np.array([0]), "six": np.array([6]), "two": np.array([2])}
    named = {n: v for n, v in constants.items() if n in tail.replace(",", " ").replace(")", " ").split()}
    signature = f"(float[1, 4, 19] x, float[1, 6, 17] z) -> (float{list(shape)} y)"
    g = graph(signature, "c = Conv(x, w) " + tail, w=random(6, 4, 3), **named)
    assert g.after(rows.run, sink_views.run)[-2] == "Squeeze"
    g.same_as_reference(atol=1e-5)
