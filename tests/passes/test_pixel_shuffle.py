"""Transposed convolutions whose windows do not overlap, as 1x1 convolutions and a shuffle."""

import numpy as np
import pytest

from compiler.passes import pixel_shuffle

rng = np.random.default_rng(11)


def weights(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("kernel", "out"), [((2, 2), 1), ((2, 3), 2), ((1, 4), 3)])
def test_windows_side_by_side(graph, kernel, out):
    kh, kw = kernel
    g = graph(
        f"(float[2, 6, 5, 4] x) -> (float[2, {out}, {5 * kh}, {4 * kw}] y)",
        f"y = ConvTranspose <strides = [{kh}, {kw}]> (x, w, b)",
        w=weights(6, out, kh, kw),
        b=weights(out),
    )
    left = g.after(pixel_shuffle.run)
    assert "ConvTranspose" not in left and left.count("Conv") == 1
    g.same_as_reference(atol=1e-5)  # sums of 6 products of numbers about 1


@pytest.mark.parametrize(
    ("attributes", "shape", "size"),
    [
        ("strides = [1, 1]", (6, 1, 2, 2), (6, 5)),  # windows overlap
        ("strides = [3, 3]", (6, 1, 2, 2), (14, 11)),  # gaps between them
        ("strides = [2, 2], pads = [1, 0, 0, 1]", (6, 1, 2, 2), (9, 7)),
        ("strides = [2, 2], output_padding = [1, 0]", (6, 1, 2, 2), (11, 8)),
        ("strides = [2, 2], group = 2", (6, 1, 2, 2), (10, 8)),
        ("strides = [2, 2]", (6, 64, 2, 2), (10, 8)),  # enough channels to fill vectors without
    ],
)
def test_others_stay(graph, attributes, shape, size):
    channels = shape[1] * (2 if "group" in attributes else 1)
    g = graph(
        f"(float[1, 6, 5, 4] x) -> (float[1, {channels}, {size[0]}, {size[1]}] y)",
        f"y = ConvTranspose <{attributes}> (x, w)",
        w=weights(*shape),
    )
    assert g.after(pixel_shuffle.run) == ["ConvTranspose"]
    g.same_as_reference(atol=1e-5)
