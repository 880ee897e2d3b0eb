"""Attention against the spelled-out form in float64: both layouts, masks, causal, symbolic lengths, odd sizes."""

import numpy as np
import pytest

from .calls import both_isas, leaf, rng, run_call, var

R = rng()


def attention(q, k, v, scale, mask=None, causal=False):
    """[B, H, S, D] each."""
    s = np.einsum("bhsd,bhtd->bhst", q.astype("f8"), k) * scale
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.arange(k.shape[2]) > np.arange(q.shape[2])[:, None], -np.inf, s)
    top = s.max(-1, keepdims=True)
    p = np.exp(s - np.where(np.isinf(top), 0, top))
    total = p.sum(-1, keepdims=True)
    return np.einsum("bhst,bhtd->bhsd", p / np.where(total == 0, 1, total), v)


def random(*shape):
    return R.standard_normal(shape).astype("f4")


# each score is a sum of D products, the result a mean: errors of some 10 roundings of numbers near 1
CLOSE = {"rtol": 2e-5, "atol": 2e-5}
CASES = [(1, 2, 16, 16, 32), (2, 3, 7, 21, 20), (1, 1, 1, 1, 8), (1, 2, 40, 200, 64), (1, 1, 33, 97, 130)]


@both_isas
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("causal", [0, 1])
def test_heads_first(case, causal, isa):
    batch, heads, s, t, d = case
    q, k, v = random(batch, heads, s, d), random(batch, heads, t, d), random(batch, heads, t, d)
    pairs = [(leaf(a, n), a) for a, n in ((q, "q"), (k, "k"), (v, "v"))]
    got = run_call("edgert.Attention", {"causal": causal, "scale": 0.3}, pairs, [(q.shape, "float32")], isa)
    np.testing.assert_allclose(got, attention(q, k, v, 0.3, None, causal), **CLOSE)


@both_isas
@pytest.mark.parametrize("kind", ["keys", "full", "bool"])
def test_packed_heads_symbolic_with_mask(kind, isa):
    batch, heads, d = 2, 3, 16
    n, m = var("n"), var("m")
    for s, t in [(5, 5), (16, 32), (35, 110)]:
        q, k, v = random(batch, s, heads * d), random(batch, t, heads * d), random(batch, t, heads * d)
        mask = random(batch, 1, 1, t) if kind == "keys" else random(s, t)
        shape = (batch, 1, 1, m) if kind == "keys" else (n, m)
        if kind == "bool":
            mask = mask > -0.5
            mask[0] = False  # a query that sees nothing
        split = lambda a: a.reshape(batch, -1, heads, d).transpose(0, 2, 1, 3)  # noqa: E731
        want = attention(split(q), split(k), split(v), d**-0.5, mask).transpose(0, 2, 1, 3).reshape(batch, s, -1)
        pairs = [(leaf(q, "q", (batch, n, heads * d)), q), (leaf(k, "k", (batch, m, heads * d)), k)]
        pairs += [(leaf(v, "v", (batch, m, heads * d)), v), (leaf(mask, "mask", shape), mask)]
        bias = random(heads * d)
        extra = leaf(bias, "bias")
        attrs, shape = {"layout": "BSHD", "num_heads": heads}, (batch, n, heads * d)
        tail = (lambda x, i, extra=extra: x + extra(i[2]), [(extra, bias)])
        got = run_call("edgert.Attention", attrs, pairs, [(shape, "float32")], isa, tail, {"n": s, "m": t})
        np.testing.assert_allclose(got, want + bias, **CLOSE)


@both_isas
def test_fewer_key_heads_and_another_value_size(isa):
    q, k, v = random(1, 6, 10, 16), random(1, 2, 12, 16), random(1, 2, 12, 24)
    pairs = [(leaf(a, n), a) for a, n in ((q, "q"), (k, "k"), (v, "v"))]
    got = run_call("edgert.Attention", {}, pairs, [((1, 6, 10, 24), "float32")], isa)
    np.testing.assert_allclose(got, attention(q, k.repeat(3, 1), v.repeat(3, 1), 0.25), **CLOSE)


def test_nan_is_seen():
    q, k, v = random(1, 1, 4, 8), random(1, 1, 5, 8), random(1, 1, 5, 8)
    q[0, 0, 1, 3] = np.nan
    pairs = [(leaf(a, n), a) for a, n in ((q, "q"), (k, "k"), (v, "v"))]
    got = run_call("edgert.Attention", {}, pairs, [(q.shape, "float32")])
    assert np.isnan(got[0, 0, 1]).all() and np.isfinite(got[0, 0, [0, 2, 3]]).all()
