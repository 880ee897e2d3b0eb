"""Softmax and the normalisations against numpy in float64; rows of any length, symbolic ones too."""

import numpy as np
import pytest

from .calls import both_isas, leaf, rng, run_call, var

R = rng()
SHAPES = [(3, 5), (2, 3, 16), (4, 67), (1, 2, 128), (7, 1), (2, 1000)]


def softmax(x, log=False):
    x = x.astype("f8") - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True)) if log else np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@both_isas
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(op, isa):
    for shape in SHAPES:
        x = (R.standard_normal(shape) * 5).astype("f4")
        got = run_call(op, {"axis": -1}, [(leaf(x, "x"), x)], [(shape, "float32")], isa)
        # x - max, up to 40, is rounded once: 40 * 2^-24 relative in exp; then a few ulp. For the log: absolute
        log = op == "LogSoftmax"
        np.testing.assert_allclose(got, softmax(x, log), rtol=4e-6, atol=4e-6 if log else 0)


@both_isas
def test_softmax_symbolic_with_tail_and_masked(isa):
    n, m = var("n"), var("m")
    for dims in [(1, 1), (3, 70), (5, 16), (2, 200)]:
        x = R.standard_normal(dims).astype("f4")
        x[:, 1:3] = -np.inf
        add = R.standard_normal(dims).astype("f4")
        extra = leaf(add, "add", (n, m))
        tail = (lambda v, i, extra=extra: v * extra(*i), [(extra, add)])
        pairs, named = [(leaf(x, "x", (n, m)), x)], {"n": dims[0], "m": dims[1]}
        got = run_call("Softmax", {"axis": 1}, pairs, [((n, m), "float32")], isa, tail, named)
        np.testing.assert_allclose(got, softmax(x) * add, rtol=2e-6)


def test_softmax_half_and_other_axis():
    x = R.standard_normal((4, 40)).astype("f2")
    got = run_call("Softmax", {"axis": -1}, [(leaf(x, "x"), x)], [(x.shape, "float16")])
    np.testing.assert_allclose(got, softmax(x), rtol=1e-3)  # one rounding to float16
    assert run_call("Softmax", {"axis": 0}, [(leaf(x, "x"), x)], [(x.shape, "float16")]) is None


def layer_norm(x, scale, bias, axis, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    x = x.astype("f8")
    d = x - x.mean(axes, keepdims=True)
    return d / np.sqrt((d * d).mean(axes, keepdims=True) + epsilon) * scale + (0 if bias is None else bias)


@both_isas
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm(axis, with_bias, isa):
    for shape in [(3, 5), (2, 4, 33), (4, 3, 64), (2, 384)]:
        x = (R.standard_normal(shape) + 3).astype("f4")
        s, o = (R.standard_normal(shape[axis:]).astype("f4") for _ in range(2))
        inputs = [(leaf(x, "x"), x), (leaf(s, "s"), s), (leaf(o, "o"), o) if with_bias else None]
        got = run_call("LayerNormalization", {"axis": axis}, inputs, [(shape, "float32")], isa)
        np.testing.assert_allclose(got, layer_norm(x, s, o if with_bias else None, axis), rtol=1e-5, atol=1e-5)


@both_isas
def test_layer_norm_symbolic_with_residual_tail(isa):
    rows = var("rows")
    x, r = (R.standard_normal((9, 40)).astype("f4") for _ in range(2))
    s, o = (R.standard_normal(40).astype("f4") for _ in range(2))
    extra = leaf(r, "r", (rows, 40))
    inputs = [(leaf(x, "x", (rows, 40)), x), (leaf(s, "s"), s), (leaf(o, "o"), o)]
    got = run_call("LayerNormalization", {"axis": -1, "epsilon": 1e-3}, inputs, [((rows, 40), "float32")], isa,
                   (lambda v, i: v + extra(*i), [(extra, r)]), {"rows": 9})  # fmt: skip
    np.testing.assert_allclose(got, layer_norm(x, s, o, -1, 1e-3) + r, rtol=1e-5, atol=1e-5)


@both_isas
def test_large_mean_does_not_cancel(isa):
    x = (R.standard_normal((2, 256)) + 1000).astype("f4")
    s = np.ones(256, "f4")
    got = run_call("LayerNormalization", {}, [(leaf(x, "x"), x), (leaf(s, "s"), s), None], [(x.shape, "float32")], isa)
    # the mean itself is rounded to 1000 * 2^-24
    np.testing.assert_allclose(got, layer_norm(x, s, None, -1), atol=5e-4)


@both_isas
def test_rms_norm(isa):
    x, s = R.standard_normal((5, 77)).astype("f4"), R.standard_normal(77).astype("f4")
    got = run_call(
        "RMSNormalization", {"epsilon": 1e-6}, [(leaf(x, "x"), x), (leaf(s, "s"), s)], [(x.shape, "float32")], isa
    )
    want = x / np.sqrt((x.astype("f8") ** 2).mean(-1, keepdims=True) + 1e-6) * s
    np.testing.assert_allclose(got, want, rtol=1e-5)


@both_isas
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_and_instance_norm(groups, isa):
    for spatial in [(5,), (4, 7), (2, 3, 8)]:
        x = R.standard_normal((2, 6, *spatial)).astype("f4")
        s, o = (R.standard_normal(6).astype("f4") for _ in range(2))
        g = x.reshape(2, groups, -1).astype("f8")
        d = g - g.mean(-1, keepdims=True)
        each = (-1,) + (1,) * len(spatial)
        want = (d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)).reshape(x.shape) * s.reshape(each) + o.reshape(
            each
        )
        op, attrs = ("InstanceNormalization", {}) if groups == 6 else ("GroupNormalization", {"num_groups": groups})
        got = run_call(
            op, attrs, [(leaf(a, n), a) for a, n in ((x, "x"), (s, "s"), (o, "o"))], [(x.shape, "float32")], isa
        )
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
