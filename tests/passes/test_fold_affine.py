"""Scales, shifts and batch norm inside the weights of what comes before or after."""

import numpy as np
import pytest

from compiler.passes import fold_affine, fold_affine_ahead

RNG = np.random.default_rng(5)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CONV = "(float[1, 4, 9, 9] x) -> (float[1, 6, 7, 7] y)"
W, B = random(6, 4, 3, 3), random(6)
# weights change by a rounding each, and a result is the sum of 36 products
CLOSE = {"rtol": 1e-5, "atol": 1e-4}


def channel(n: int) -> np.ndarray:
    return random(n, 1, 1)


def test_batch_norm(graph):
    body = "c = Conv(x, w, b) y = BatchNormalization <epsilon = 0.001> (c, s, t, m, v)"
    g = graph(CONV, body, w=W, b=B, s=random(6), t=random(6), m=random(6), v=random(6) ** 2)
    assert g.after(fold_affine.run) == ["Conv"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize(
    "tail",
    [
        "y = Mul(c, k)",
        "y = Mul(k, c)",
        "y = Add(c, k)",
        "y = Sub(c, k)",
        "y = Div(c, k)",
        "d = Mul(c, k) e = Add(d, k) y = Mul(one, e)",
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_behind_conv(graph, tail, bias):
    constants = {"w": W, "k": channel(6)} | ({"b": B} if bias else {}) | ({"one": 1.5} if "one" in tail else {})
    g = graph(CONV, ("c = Conv(x, w, b) " if bias else "c = Conv(x, w) ") + tail, **constants)
    assert g.after(fold_affine.run) == ["Conv"]
    g.same_as_reference(**CLOSE)


def test_behind_transposed_conv(graph):
    g = graph("(float[1, 4, 5, 5] x) -> (float[1, 6, 7, 7] y)", "c = ConvTranspose(x, w) d = Mul(c, k) y = Add(d, k)",
              w=random(4, 6, 3, 3), k=channel(6))  # fmt: skip
    assert g.after(fold_affine.run) == ["ConvTranspose"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize(
    ("signature", "tail", "constants"),
    [
        (CONV, "y = Sub(k, c)", {"k": channel(6)}),
        (CONV, "y = Div(k, c)", {"k": channel(6)}),
        (CONV, "y = Div(c, k)", {"k": np.zeros((6, 1, 1), np.float32)}),
        (CONV, "y = Mul(c, k)", {"k": random(1, 1, 7)}),
        (
            "(float[1, 4, 9, 9] x) -> (float[1, 6, 7, 7] y, float[1, 6, 7, 7] z)",
            "y = Mul(c, k) z = Neg(c)",
            {"k": channel(6)},
        ),
        ("(float[1, 4, 9, 9] x) -> (float[2, 6, 7, 7] y)", "y = Mul(c, k)", {"k": random(2, 6, 1, 1)}),
        ("(float[1, 4, 9, 9] x, float[6, 1, 1] k) -> (float[1, 6, 7, 7] y)", "y = Mul(c, k)", {}),
    ],
)
def test_that_stay(graph, signature, tail, constants):
    g = graph(signature, "c = Conv(x, w) " + tail, w=W, **constants)
    assert len(g.after(fold_affine.run)) > 1
    if not np.any([np.all(v == 0) for v in constants.values()]):
        g.same_as_reference(**CLOSE)


@pytest.mark.parametrize(
    "op", ["c = MatMul(x, w)", "c = Gemm(x, w, b)", "c = Gemm <transB = 1> (x, v, b)", "c = Gemm(x, w)"]
)
def test_behind_matrix_product(graph, op):
    words = op.replace(")", " ").replace(",", " ").split()
    constants = {"w": random(8, 5), "v": random(5, 8), "b": random(5)}
    g = graph("(float[3, 8] x) -> (float[3, 5] y)", op + " y = Mul(c, k)", k=random(5),
              **{n: v for n, v in constants.items() if n in words or f"({n}" in op})  # fmt: skip
    expected = ["Gemm", "Mul"] if ", b" in op else [op.split()[2].split("(")[0]]
    assert g.after(fold_affine.run) == expected
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_ahead_of_conv(graph, group):
    body = f"a = Mul(x, g) d = Add(s, a) y = Conv <group = {group}> (d, w, b)"
    g = graph(
        CONV.replace("6, 7", "8, 7"), body, w=random(8, 4 // group, 3, 3), b=random(8), g=channel(4), s=channel(4)
    )
    assert g.after(fold_affine_ahead.run) == ["Conv"]
    g.same_as_reference(**CLOSE)


def test_scale_ahead_of_padding(graph):
    body = "a = Mul(x, g) y = Conv <pads = [1, 1, 1, 1]> (a, w)"
    g = graph(CONV.replace("7, 7", "9, 9"), body, w=W, g=channel(4))
    assert g.after(fold_affine_ahead.run) == ["Conv"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize("attrs", ["pads = [1, 1, 1, 1]", 'auto_pad = "SAME_UPPER"'])
def test_shift_ahead_of_padding_stays(graph, attrs):
    g = graph(CONV.replace("7, 7", "9, 9"), f"a = Add(x, s) y = Conv <{attrs}> (a, w)", w=W, s=channel(4))
    assert g.after(fold_affine_ahead.run) == ["Add", "Conv"]
    g.same_as_reference(**CLOSE)


def test_shift_read_elsewhere(graph):
    signature = "(float[1, 4, 9, 9] x) -> (float[1, 6, 7, 7] y, float[1, 4, 9, 9] a)"
    assert graph(signature, "a = Add(x, s) y = Conv(a, w)", w=W, s=channel(4)).after(fold_affine_ahead.run) == [
        "Add",
        "Conv",
    ]
