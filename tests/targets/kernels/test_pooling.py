"""Pooling in NHWC against a plain loop in numpy."""

import numpy as np
import pytest

from .calls import both_isas, leaf, rng, run_call

R = rng()
CASES = [  # size, channels, kernel, strides, pads, dilations
    ((7, 9), 3, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((8, 8), 24, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((9, 6), 67, (3, 2), (1, 2), (0, 1, 1, 0), (2, 1)),
    ((5, 5), 128, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
    ((6, 7), 1, (3, 3), (2, 2), (1, 1, 2, 2), (1, 1)),  # as ceil_mode makes it: the last window hangs over
]


def pool(x, size, kernel, strides, pads, dilations, kind, include):
    out = [(size[a] + pads[a] + pads[a + 2] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1 for a in (0, 1)]
    y = np.zeros((x.shape[0], *out, x.shape[3]))
    for i, j in np.ndindex(*out):
        taps = [[o * strides[a] - pads[a] + k * dilations[a] for k in range(kernel[a])] for a, o in ((0, i), (1, j))]
        inside = [[p for p in t if 0 <= p < size[a]] for a, t in enumerate(taps)]
        window = x[:, inside[0]][:, :, inside[1]].astype("f8")
        if kind == "max":
            y[:, i, j] = window.max((1, 2))
        else:
            counted = [[p for p in t if p < size[a] + pads[a + 2]] for a, t in enumerate(taps)] if include else inside
            y[:, i, j] = window.sum((1, 2)) / (len(counted[0]) * len(counted[1]))
    return y


@both_isas
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pool(case, include, kind, isa):
    size, channels, kernel, strides, pads, dilations = case
    x = R.standard_normal((2, *size, channels)).astype("f4")
    want = pool(x, size, kernel, strides, pads, dilations, kind, include)
    attrs = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "count_include_pad": include,
    }
    op = "edgert.MaxPool2d" if kind == "max" else "edgert.AveragePool2d"
    b = R.standard_normal(channels).astype("f4")
    extra = leaf(b, "b")
    got = run_call(
        op, attrs, [(leaf(x, "x"), x)], [(want.shape, "float32")], isa, (lambda v, i: v + extra(i[3]), [(extra, b)])
    )
    np.testing.assert_allclose(got, want + b, rtol=1e-5, atol=2e-6)  # 25 additions


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_max_pool_of_bytes(dtype):
    x = R.integers(0, 127, (1, 6, 6, 70)).astype(dtype)
    want = pool(x, (6, 6), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), "max", 0)
    attrs = {"kernel_shape": (2, 2), "strides": (2, 2)}
    np.testing.assert_array_equal(run_call("edgert.MaxPool2d", attrs, [(leaf(x, "x"), x)], [(want.shape, dtype)]), want)
