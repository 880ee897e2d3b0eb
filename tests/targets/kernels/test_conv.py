"""Convolutions, dense, grouped and depthwise, against a plain sum over the window in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.kernels.tensor import Tensor, compute

from .kernel_case import ISAS, assert_close, leaf, run

Pair = tuple[int, int]


def reference(x, w, strides: Pair, pads, dilations: Pair, group: int) -> np.ndarray:
    """NHWC input, OIHW weights -> NHWC output, float64."""
    n = x.shape[0]
    o, ci, kh, kw = w.shape
    x = np.pad(x.astype(float), ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    oh = (x.shape[1] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (x.shape[2] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.zeros((n, oh, ow, group, o // group))
    weights = w.astype(float).reshape(group, o // group, ci, kh, kw)
    for a in range(kh):
        for b in range(kw):
            top, left = a * dilations[0], b * dilations[1]
            down = slice(top, top + (oh - 1) * strides[0] + 1, strides[0])
            across = slice(left, left + (ow - 1) * strides[1] + 1, strides[1])
            part = x[:, down, across]
            out += np.einsum("nhwgc,goc->nhwgo", part.reshape(n, oh, ow, group, ci), weights[..., a, b])
    return out.reshape(n, oh, ow, o)


def check(
    target, shape, out: int, kernel: Pair, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), group=1, residual=False,
    config=None,
) -> None:  # fmt: skip
    rng = np.random.default_rng(sum(shape) + out)
    x = rng.standard_normal(shape).astype(np.float32)
    w = rng.standard_normal((out, shape[3] // group, *kernel)).astype(np.float32)
    bias = rng.standard_normal(out).astype(np.float32)
    want = reference(x, w, strides, pads, dilations, group) + bias
    terms = reference(np.abs(x), np.abs(w), strides, pads, dilations, group) + 5
    r = rng.standard_normal(want.shape).astype(np.float32)
    X, W, B, R = leaf(x, "x"), leaf(w, "w", constant=True), leaf(bias, "b", constant=True), leaf(r, "r")
    zero, six = tirx.const(0.0, "float32"), tirx.const(6.0, "float32")

    def tail(o: Tensor) -> Tensor:
        if residual:
            return compute(o.shape, "float32", lambda n, i, j, c: o(n, i, j, c) + B(c) + R(n, i, j, c), [o, B, R])

        def relu6(n, i, j, c):
            return tirx.min(tirx.max(o(n, i, j, c) + B(c), zero), six)

        return compute(o.shape, "float32", relu6, [o, B])

    want = want + r if residual else np.clip(want, 0, 6)
    attrs = {"strides": list(strides), "pads": list(pads), "dilations": list(dilations), "group": group}
    got = run("edgert.Conv2d", attrs, [X, W], want.shape, {X: x, R: r}, target, tail, config=config)
    assert_close(got, want, terms)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    "case",
    [
        dict(shape=(2, 7, 7, 24), out=40, kernel=(1, 1), residual=True),
        dict(shape=(1, 9, 8, 16), out=33, kernel=(1, 1), strides=(2, 2)),
        dict(shape=(1, 18, 18, 3), out=32, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        dict(shape=(1, 17, 40, 5), out=19, kernel=(3, 3), pads=(1, 1, 1, 1), residual=True),
        dict(shape=(2, 6, 11, 4), out=8, kernel=(5, 3), strides=(2, 1), pads=(2, 0, 1, 1)),
        dict(shape=(1, 12, 13, 6), out=7, kernel=(3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)),
        dict(shape=(1, 10, 5, 6), out=10, kernel=(3, 3), pads=(4, 5, 4, 5), dilations=(1, 5)),
        dict(shape=(1, 1, 50, 7), out=9, kernel=(1, 5), strides=(1, 2), pads=(0, 2, 0, 2)),
        dict(shape=(1, 1, 64, 4), out=4, kernel=(1, 3), pads=(0, 27, 0, 27), dilations=(1, 27)),
        dict(shape=(1, 4, 4, 3), out=1, kernel=(4, 4)),
    ],
    ids=lambda c: "x".join(map(str, c["shape"])),
)
def test_dense(target, case: dict) -> None:
    check(target, **case)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    "case",
    [
        dict(shape=(1, 6, 6, 16), out=16, kernel=(3, 3), pads=(1, 1, 1, 1), group=4, residual=True),
        dict(shape=(1, 5, 6, 9), out=12, kernel=(3, 3), group=3),
        dict(shape=(1, 5, 5, 40), out=80, kernel=(1, 1), group=2),
        dict(shape=(1, 6, 5, 6), out=12, kernel=(3, 3), pads=(1, 1, 1, 1), group=6),
        dict(shape=(1, 4, 5, 80), out=72, kernel=(2, 2), group=2),
    ],
    ids=lambda c: "x".join(map(str, c["shape"])),
)
def test_grouped(target, case: dict) -> None:
    check(target, **case)
