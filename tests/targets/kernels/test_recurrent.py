"""LSTM, GRU and RNN against a plain loop in float64: directions, lengths, layouts, peepholes, odd sizes."""

import numpy as np
import pytest

from .calls import both_isas, leaf, rng, run_call, var

R = rng()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer(op, x, w, r, b, lengths, h0, c0, p, direction):
    """ONNX's equations; x [S, N, I]. Gives Y [S, D, N, H], Y_h and Y_c [D, N, H]."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    hidden, (steps, batch) = r.shape[2], x.shape[:2]
    y, yh, yc = (
        np.zeros((steps, len(w), batch, hidden)),
        np.zeros((len(w), batch, hidden)),
        np.zeros((len(w), batch, hidden)),
    )
    for d in range(len(w)):
        reverse = direction == "reverse" or d == 1
        wb, rb = np.split(b[d].astype("f8"), 2)
        for n in range(batch):
            h, c = h0[d, n].astype("f8"), c0[d, n].astype("f8")
            order = range(lengths[n])
            for t in reversed(order) if reverse else order:
                a, q = x[t, n] @ w[d].T.astype("f8") + wb, h @ r[d].T.astype("f8") + rb
                a, q = a.reshape(gates, -1), q.reshape(gates, -1)
                if op == "LSTM":
                    pi, po, pf = p[d].reshape(3, -1)
                    i, f = sigmoid(a[0] + q[0] + pi * c), sigmoid(a[2] + q[2] + pf * c)
                    c = f * c + i * np.tanh(a[3] + q[3])
                    h = sigmoid(a[1] + q[1] + po * c) * np.tanh(c)
                elif op == "GRU":
                    z, g = sigmoid(a[0] + q[0]), sigmoid(a[1] + q[1])
                    h = (1 - z) * np.tanh(a[2] + g * q[2]) + z * h
                else:
                    h = np.tanh(a[0] + q[0])
                y[t, d, n] = h
            yh[d, n], yc[d, n] = h, c
    return y, yh, yc


def check(op, steps, batch, size, hidden, isa=None, direction="forward", lengths=None, peep=False, layout=0, dims=None):
    gates, d = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    x, w, r, b, h0, c0, p = (
        (R.standard_normal(s) * 0.4).astype("f4")
        for s in [(steps, batch, size), (d, gates * hidden, size), (d, gates * hidden, hidden), (d, 2 * gates * hidden),
                  (d, batch, hidden), (d, batch, hidden), (d, 3 * hidden)]
    )  # fmt: skip
    p *= peep
    given = np.array(lengths if lengths else [steps] * batch, np.int32)
    want = layer(op, x, w, r, b, given, h0, c0, p, direction)
    swap = (lambda a, y=False: a.transpose(2, 0, 1, 3) if y else a.swapaxes(0, 1)) if layout else (lambda a, y=False: a)
    s, n = dims or (steps, batch)
    shapes = [(s, d, n, hidden), *[(d, n, hidden)] * 2]
    if layout:
        shapes = [(n, s, d, hidden), *[(n, d, hidden)] * 2]
    first = np.ascontiguousarray(swap(x))
    inputs = [(leaf(first, "x", ((n, s, size) if layout else (s, n, size))), first)]
    inputs += [(leaf(a, name, constant=True), a) for a, name in ((w, "w"), (r, "r"), (b, "b"))]
    inputs += [(leaf(given, "lengths", (n,)), given) if lengths else None]
    for a, name in [(h0, "h0"), (c0, "c0")][: 2 if op == "LSTM" else 1]:
        inputs.append((leaf(swap(a), name, shapes[1]), np.ascontiguousarray(swap(a))))
    if peep:
        inputs.append((leaf(p, "p", constant=True), p))
    attrs = {"direction": direction, "layout": layout, "linear_before_reset": 1, "hidden_size": hidden}
    count = 3 if op == "LSTM" else 2
    named = {"s": steps, "n": batch}
    got = run_call(op, attrs, inputs, [(sh, "float32") for sh in shapes[:count]], isa, dims=named if dims else None)
    for i, (a, e) in enumerate(zip(got, want, strict=False)):
        # sums of hidden + size products near 1; an RNN does not forget, so its states carry each step's error on
        np.testing.assert_allclose(a, swap(e, i == 0), atol=3e-5 if op == "RNN" else 5e-6)


@both_isas
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("hidden", [5, 16, 67, 128])
def test_hidden_sizes(op, hidden, isa):
    check(op, 4, 1, 13, hidden, isa)


@both_isas
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_directions_with_lengths(op, direction, isa):
    check(op, 5, 3, 7, 20, isa, direction, [5, 0, 3])


@both_isas
@pytest.mark.parametrize("layout", [0, 1])
def test_peepholes_and_layout(layout, isa):
    check("LSTM", 3, 2, 9, 33, isa, "bidirectional", [2, 3], peep=True, layout=layout)


@both_isas
def test_symbolic_steps_and_batch(isa):
    for steps, batch in [(1, 1), (7, 2), (4, 5)]:
        check("GRU", steps, batch, 6, 10, isa, dims=(var("s"), var("n")))


def test_what_is_left_to_others():
    x = np.zeros((2, 1, 4), "f4")
    pairs = [(leaf(x, "x"), x)] + [(leaf(a, "w", constant=True), a) for a in (np.zeros((1, 12, 4), "f4"),) * 2]
    outputs = [((2, 1, 1, 4), "float32"), ((1, 1, 4), "float32")]
    assert run_call("GRU", {"linear_before_reset": 0}, pairs, outputs) is None
    assert run_call("GRU", {"linear_before_reset": 1, "clip": 1.0}, pairs, outputs) is None
    assert run_call("GRU", {"linear_before_reset": 1, "activations": ["Relu", "Tanh"]}, pairs, outputs) is None
