"""Channels last inside, transposes at the borders only."""

import numpy as np
import pytest

from compiler.passes import layout

RNG = np.random.default_rng(17)
CLOSE = {"atol": 5e-5}  # chains of sums over up to 54 products


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


W, V = random(6, 4, 3, 3), random(6, 6, 3, 3)
BETWEEN = {
    "residual": ("d = Add(c, c2)", (6, 8, 8)),
    "activation": ("a = Relu(c) d = Clip(a, zero, six)", (6, 8, 8)),
    "per channel": ("d = Mul(c, k)", (6, 8, 8)),
    "per row": ("d = Mul(c, r)", (6, 8, 8)),
    "pools": ("a = MaxPool <kernel_shape = [2, 2]> (c) d = AveragePool <kernel_shape = [2, 2]> (a)", (6, 6, 6)),
    "concat": ("a = Concat <axis = 1> (c, c) d = Slice(a, i2, i8, i1)", (6, 8, 8)),
    "gate": ("a = GlobalAveragePool(c) b = Sigmoid(a) d = Mul(c, b)", (6, 8, 8)),
    "resize": ("""d = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
        nearest_mode = "floor"> (c, , scales)""", (6, 16, 16)),
    "slices": ("d = Slice(c, i2, i8, i3)", (6, 8, 6)),
}  # fmt: skip
CONSTANTS = {
    "zero": 0.0, "six": 6.0, "k": random(6, 1, 1), "r": random(8, 1), "scales": np.float32([1, 1, 2, 2]),
    "i1": np.array([1]), "i2": np.array([2]), "i3": np.array([3]), "i8": np.array([8]),
}  # fmt: skip


@pytest.mark.parametrize("form", BETWEEN)
def test_between_convolutions(graph, form):
    body, (_, height, width) = BETWEEN[form]
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    convs = ("c2 = Conv(x, w) " if "c2" in words else "") + "c = Conv(x, w) " + body + " y = Conv(d, v)"
    constants = {name: value for name, value in CONSTANTS.items() if name in words}
    g = graph(f"(float[1, 4, 10, 10] x) -> (float[1, 6, {height - 2}, {width - 2}] y)", convs, w=W, v=V, **constants)
    # once on the way in, once on the way out
    assert g.compiled().count("Transpose") == 2
    g.same_as_reference(**CLOSE)


HEADS = {
    "mean": ("y = ReduceMean <keepdims = 0> (c, axes)", [1, 6]),
    "mean with axes": ("y = ReduceMean <keepdims = 1> (c, axes)", [1, 6, 1, 1]),
    "global maximum": ("y = GlobalMaxPool(c)", [1, 6, 1, 1]),
    "global average": ("a = GlobalAveragePool(c) y = Flatten(a)", [1, 6]),
}


@pytest.mark.parametrize("form", HEADS)
def test_head(graph, form):
    """Behind the pool the bytes lie alike in both layouts."""
    tail, shape = HEADS[form]
    constants = {"axes": np.array([2, 3])} if "axes" in tail else {}
    g = graph(f"(float[1, 4, 10, 10] x) -> (float{shape} y)", "c = Conv(x, w) " + tail, w=W, **constants)
    assert g.compiled().count("Transpose") == 1
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize("pads", ['auto_pad = "SAME_UPPER"', 'auto_pad = "SAME_LOWER"', "pads = [1, 0, 2, 1]"])
def test_pads(graph, pads):
    shape = [1, 6, 5, 5] if "auto" in pads else [1, 6, 6, 5]
    g = graph(f"(float[1, 4, 10, 10] x) -> (float{shape} y)", f"y = Conv <strides = [2, 2], {pads}> (x, w)", w=W)
    assert "edgert.Conv2d" in g.after(layout.run)
    g.same_as_reference(**CLOSE)


def test_transposed(graph):
    body = "c = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, w) y = Relu(c)"
    g = graph("(float[1, 4, 5, 5] x) -> (float[1, 6, 10, 10] y)", body, w=random(4, 6, 3, 3))
    assert g.compiled().count("Transpose") == 2
    g.same_as_reference(**CLOSE)


def test_output_in_the_middle(graph):
    body = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    g = graph("(float[1, 4, 10, 10] x) -> (float[1, 6, 6, 6] y, float[1, 6, 8, 8] r)", body, w=W, v=V)
    assert g.compiled().count("Transpose") == 3
    g.same_as_reference(**CLOSE)


def test_computed_weights_stay(graph):
    g = graph("(float[1, 4, 6, 6] x, float[6, 4, 3, 3] w) -> (float[1, 6, 4, 4] y)", "y = Conv(x, w)")
    assert g.after(layout.run) == ["Conv"]
    g.same_as_reference(**CLOSE)


def test_max_pool_with_indices_stays(graph):
    signature = "(float[1, 4, 6, 6] x) -> (float[1, 4, 3, 3] y, int64[1, 4, 3, 3] i)"
    g = graph(signature, "y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)")
    assert g.after(layout.run) == ["MaxPool"]
    g.same_as_reference(**CLOSE)
