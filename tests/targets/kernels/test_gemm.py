"""Dense layers against numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.kernels.tensor import compute

from .kernel_case import ISAS, assert_close, leaf, run


def arrays(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * 10007 + k * 101 + n)
    return tuple(rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (n,), (m, n)))  # type: ignore[return-value]


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 33, 10), (3, 64, 100), (5, 7, 3), (49, 40, 160), (37, 19, 47), (28, 3, 24), (130, 12, 1)]
)
def test_gemm_with_bias_and_residual(target, m: int, k: int, n: int) -> None:
    a, w, bias, residual = arrays(m, k, n)
    A, W, B, R = leaf(a, "a"), leaf(w, "w", constant=True), leaf(bias, "b", constant=True), leaf(residual, "r")
    got = run(
        "edgert.Gemm", {}, [A, W], (m, n), {A: a, R: residual}, target,
        lambda o: compute((m, n), "float32", lambda i, j: o(i, j) + B(j) + R(i, j), [o, B, R]),
    )  # fmt: skip
    assert_close(got, a.astype(float) @ w + bias + residual, np.abs(a) @ np.abs(w) + 3)


@pytest.mark.parametrize("target", ISAS)
def test_gemm_transposed_weights_and_relu(target) -> None:
    a, w, bias, _ = arrays(17, 21, 35)
    A, W, B = leaf(a, "a"), leaf(np.ascontiguousarray(w.T), "w", constant=True), leaf(bias, "b", constant=True)
    zero = tirx.const(0.0, "float32")
    got = run(
        "edgert.Gemm", {"transB": 1}, [A, W], (17, 35), {A: a}, target,
        lambda o: compute((17, 35), "float32", lambda i, j: tirx.max(o(i, j) + B(j), zero), [o, B]),
    )  # fmt: skip
    assert_close(got, np.maximum(a.astype(float) @ w + bias, 0), np.abs(a) @ np.abs(w) + 1)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("m", [1, 6, 13, 128, 131])
def test_gemm_of_symbolic_rows(target, m: int) -> None:
    a, w, _, _ = arrays(m, 24, 50)
    rows = tirx.Var("seq", "int64")
    A, W = leaf(a, "a", (rows, 24)), leaf(w, "w", constant=True)
    got = run("edgert.Gemm", {}, [A, W], (rows, 50), {A: a}, target, dims={"seq": m})
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
def test_tuned_tiles_give_the_same(target) -> None:
    from targets.kernels.gemm import gemm
    from targets.kernels.registry import Call

    a, w, _, _ = arrays(33, 16, 90)
    A, W = leaf(a, "a"), leaf(w, "w", constant=True)
    call = Call("edgert.Gemm", {}, [A, W], [A], A, [A])
    configs = gemm.space(call, target)
    assert len(configs) >= 4
    for config in configs[:4]:
        got = run("edgert.Gemm", {}, [A, W], (33, 90), {A: a}, target, config=config)
        assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


def test_empty_products_are_left_to_others() -> None:
    from targets.kernels.gemm import gemm
    from targets.kernels.matmul import matmul
    from targets.kernels.registry import Call

    for m, k, n in [(0, 3, 4), (3, 0, 4), (3, 4, 0)]:
        a, w, _, out = arrays(m, k, n)
        call = Call("", {}, [leaf(a, "a"), leaf(w, "w", constant=True)], [leaf(out, "y")], leaf(out, "y"), [])
        assert gemm(call, ISAS[0].values[0]) is None
        assert matmul(call, ISAS[0].values[0]) is None


def test_weights_only_known_at_run_time_are_left_to_others() -> None:
    from targets.kernels.gemm import gemm
    from targets.kernels.registry import Call

    a, w, _, _ = arrays(3, 4, 5)
    A, W = leaf(a, "a"), leaf(w, "w")
    assert gemm(Call("edgert.Gemm", {}, [A, W], [A], A, [A]), ISAS[0].values[0]) is None
