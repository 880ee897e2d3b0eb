"""Transposed convolutions against scattering every input through the kernel, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from targets.kernels.conv_transpose import phases
from targets.kernels.tensor import compute

from .kernel_case import ISAS, assert_close, leaf, run


def reference(x, w, strides, pads, extra, dilations, group) -> np.ndarray:
    n, h, wd, c = x.shape
    _, og, kh, kw = w.shape
    full_h = (h - 1) * strides[0] + (kh - 1) * dilations[0] + 1 + extra[0]
    full_w = (wd - 1) * strides[1] + (kw - 1) * dilations[1] + 1 + extra[1]
    out = np.zeros((n, full_h, full_w, group, og))
    grouped = x.astype(float).reshape(n, h, wd, group, c // group)
    weights = w.astype(float).reshape(group, c // group, og, kh, kw)
    for a in range(kh):
        for b in range(kw):
            top, left = a * dilations[0], b * dilations[1]
            down = slice(top, top + (h - 1) * strides[0] + 1, strides[0])
            across = slice(left, left + (wd - 1) * strides[1] + 1, strides[1])
            place = out[:, down, across]
            place += np.einsum("nhwgc,gco->nhwgo", grouped, weights[..., a, b])
    out = out.reshape(n, full_h, full_w, group * og)
    return out[:, pads[0] : full_h - pads[2], pads[1] : full_w - pads[3]]


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "strides", "pads", "extra", "dilations", "group"),
    [
        ((1, 6, 7, 24), 24, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1), 1),
        ((2, 5, 4, 6), 20, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1), 1),
        ((1, 4, 17, 5), 3, (4, 3), (1, 1), (2, 1, 0, 1), (0, 0), (1, 1), 1),
        ((1, 1, 20, 4), 7, (1, 16), (1, 8), (0, 4, 0, 4), (0, 0), (1, 1), 1),
        ((1, 5, 6, 4), 6, (3, 2), (2, 3), (0, 0, 0, 0), (0, 1), (2, 1), 2),
        ((1, 4, 4, 3), 5, (1, 2), (3, 2), (0, 0, 0, 0), (2, 0), (1, 3), 1),
        ((1, 3, 3, 16), 16, (4, 4), (2, 2), (1, 1, 1, 1), (0, 0), (1, 1), 16),
    ],
)
def test_conv_transpose(target, shape, out, kernel, strides, pads, extra, dilations, group) -> None:
    rng = np.random.default_rng(out)
    x = rng.standard_normal(shape).astype(np.float32)
    w = rng.standard_normal((shape[3], out // group, *kernel)).astype(np.float32)
    bias = rng.standard_normal(out).astype(np.float32)
    arguments = (strides, pads, extra, dilations, group)
    want = reference(x, w, *arguments) + bias
    X, W, B = leaf(x, "x"), leaf(w, "w", constant=True), leaf(bias, "b", constant=True)
    attrs = {"strides": list(strides), "pads": list(pads), "output_padding": list(extra), "dilations": list(dilations)}
    got = run(
        "edgert.ConvTranspose2d", attrs | {"group": group}, [X, W], want.shape, {X: x}, target,
        lambda o: compute(o.shape, "float32", lambda n, i, j, c: o(n, i, j, c) + B(c), [o, B]),
    )  # fmt: skip
    assert_close(got, want, reference(np.abs(x), np.abs(w), *arguments) + 1)


def test_phases_cover_every_output_once() -> None:
    for size, kernel, stride, pad, dilation in [(11, 3, 2, 1, 1), (7, 2, 3, 0, 2), (2, 5, 4, 3, 1)]:
        found = phases(size, kernel, stride, pad, dilation)
        covered = sorted(p.start + stride * q for p in found for q in range(p.count))
        assert covered == list(range(size))
