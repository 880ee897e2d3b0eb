"""Padding inside the convolution that follows."""

import numpy as np
import pytest

from compiler.passes import fold_padding

W = np.random.default_rng(7).standard_normal((5, 3, 3, 3)).astype(np.float32)
SIGNATURE = "(float[1, 3, 6, 6] x) -> (float[1, 5, A, B] y)"


def signature(height: int, width: int) -> str:
    return SIGNATURE.replace("A", str(height)).replace("B", str(width))


def test_zero_padding(graph):
    g = graph(
        signature(8, 7),
        "p = Pad(x, n) y = Conv <pads = [1, 0, 0, 1]> (p, w)",
        w=W,
        n=np.array([0, 0, 1, 2, 0, 0, 2, 0]),
    )
    assert g.after(fold_padding.run) == ["Conv"]
    assert list(g.node("Conv")["pads"]) == [2, 2, 2, 1]
    g.same_as_reference(atol=1e-5)


def test_padding_of_old(graph):
    g = graph(signature(6, 6), "p = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x) y = Conv(p, w)", opset=10, w=W)
    assert g.after(fold_padding.run) == ["Conv"]


@pytest.mark.parametrize(
    ("pad", "constants"),
    [
        ("Pad(x, n, v)", {"v": 1.0}),
        ('Pad <mode = "edge"> (x, n)', {}),
        ('Pad <mode = "reflect"> (x, n)', {}),
    ],
)
def test_other_fillings_stay(graph, pad, constants):
    g = graph(signature(6, 6), f"p = {pad} y = Conv(p, w)", w=W, n=np.array([0, 0, 1, 1, 0, 0, 1, 1]), **constants)
    assert g.after(fold_padding.run) == ["Pad", "Conv"]
    g.same_as_reference(atol=1e-5)


def test_cutting_stays(graph):
    g = graph(signature(3, 4), "p = Pad(x, n) y = Conv(p, w)", w=W, n=np.array([0, 0, -1, 0, 0, 0, 0, 0]))
    assert g.after(fold_padding.run) == ["Pad", "Conv"]
    g.same_as_reference(atol=1e-5)


def test_padded_channels_stay(graph):
    body = "p = Pad(x, n) y = Conv(p, w)"
    g = graph(signature(4, 4).replace("1, 3, 6", "1, 2, 6"), body, w=W, n=np.array([0, 1, 0, 0, 0, 0, 0, 0]))
    assert g.after(fold_padding.run) == ["Pad", "Conv"]
    g.same_as_reference(atol=1e-5)


def test_some_axes_only(graph):
    """Pad with `axes` (opset 18) names fewer axes than there are."""
    body = "p = Pad(x, n, , a) y = Conv(p, w)"
    g = graph(signature(6, 4), body, w=W, n=np.array([1, 1]), a=np.array([2]))
    g.after(fold_padding.run)
    g.same_as_reference(atol=1e-5)
