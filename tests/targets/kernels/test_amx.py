"""Byte products on AMX against numpy's int64: exactly equal."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets import get_target, host_features
from targets.kernels import amx, amx_conv, amx_gemm
from targets.kernels.registry import Call, stages_for
from targets.kernels.requantize import requantize
from targets.kernels.tensor import Index, Tensor, compute

AMX = get_target("x86-64-amx")
needs_amx = pytest.mark.skipif(not host_features() >= set(AMX.features), reason="this CPU lacks AMX")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products, too, though they would not pay."""
    monkeypatch.setattr(amx_gemm, "pays", lambda *_: True)
    monkeypatch.setattr(amx_conv, "pays", lambda *_: True)


def product_of(m: int, k: int, n: int, kind: str = "uint8", rows: Index | None = None) -> None:
    """Checks one product with a tail that reads a vector and a tensor of the result's shape."""
    rng = np.random.default_rng(m * 10007 + k * 101 + n)
    low, high = (0, 256) if kind == "uint8" else (-128, 128)
    a, w = rng.integers(low, high, (m, k)).astype(kind), rng.integers(-128, 128, (k, n)).astype(np.int8)
    bias, other = (rng.integers(-9999, 9999, s).astype(np.int32) for s in ((n,), (m, n)))
    shape = (m if rows is None else rows, n)
    A, R = Tensor((shape[0], k), kind, "a"), Tensor(shape, "int32", "r")
    B, acc, result = (
        Tensor((n,), "int32", "b", data=lambda: bias),
        Tensor(shape, "int32", "acc"),
        Tensor(shape, "int32", "y"),
    )
    final = compute(shape, "int32", lambda i, j: acc(i, j) + B(j) - R(i, j), [acc, B, R])
    call = Call("edgert.GemmInteger", {}, [A, None], [acc], final, [result])
    stages = amx_gemm.amx_product(call, AMX, "gemm", shape[0], A, lambda: w, k, n, "w")
    assert stages is not None
    (got,) = run_stages(stages, {id(A): a, id(R): other}, [result], AMX, {} if rows is None else {"seq": m})
    np.testing.assert_array_equal(got, a.astype(np.int64) @ w + bias - other)


@needs_amx
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (1, 4, 1), (2, 64, 16), (5, 24, 17), (15, 67, 31), (16, 128, 32), (17, 100, 33), (31, 130, 48), (33, 199, 50),
        (40, 200, 7), (32, 60, 64), (63, 321, 70), (64, 400, 96), (65, 1000, 40), (200, 72, 130),
    ],
)  # fmt: skip
def test_products(m: int, k: int, n: int, kind: str) -> None:
    product_of(m, k, n, kind)


@needs_amx
@pytest.mark.parametrize("m", [1, 7, 16, 17, 32, 45, 64, 129, 300])
@pytest.mark.parametrize(("k", "n"), [(36, 40), (400, 200)])
def test_rows_known_only_at_run_time(m: int, k: int, n: int) -> None:
    product_of(m, k, n, rows=tirx.Var("seq", "int64"))


def requantized(m: int, k: int, n: int, to: str, low: int, high: int, rows: Index | None = None) -> None:
    """Checks one product whose tail is a requantization with a bias and multiplier for each column."""
    rng = np.random.default_rng(m * 10007 + k * 101 + n)
    a, w = rng.integers(0, 256, (m, k)).astype(np.uint8), rng.integers(-128, 128, (k, n)).astype(np.int8)
    bias = rng.integers(-9999, 9999, n).astype(np.int32)
    multiplier = (rng.uniform(0.5, 1, n) * 0.01 / np.sqrt(k)).astype(np.float32)
    zero = 7 if to == "uint8" else -5
    shape = (m if rows is None else rows, n)
    A, acc, result = Tensor((shape[0], k), "uint8", "a"), Tensor(shape, "int32", "acc"), Tensor(shape, to, "y")
    B, S = (Tensor((n,), str(d.dtype), "c", data=lambda d=d: d) for d in (bias, multiplier))
    call = Call("edgert.GemmInteger", {}, [A, None], [acc], requantize(acc, B, S, zero, low, high, to), [result])
    stages = amx_gemm.amx_product(call, AMX, "gemm", shape[0], A, lambda: w, k, n, "w")
    assert stages is not None
    (got,) = run_stages(stages, {id(A): a}, [result], AMX, {} if rows is None else {"seq": m})
    sums = (a.astype(np.int64) @ w + bias).astype(np.float32)
    want = np.clip(np.rint(sums * multiplier) + zero, low, high)
    assert len(np.unique(want)) > min(10, want.size // 3)  # not all clamped
    np.testing.assert_array_equal(got, want)


@needs_amx
@pytest.mark.parametrize(("to", "low", "high"), [("uint8", 0, 255), ("uint8", 7, 90), ("int8", -128, 127)])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(3, 64, 32), (33, 24, 16), (31, 20, 24), (47, 300, 37), (50, 72, 9), (100, 600, 144), (70, 64, 16)],
)
def test_packed_requantization(m: int, k: int, n: int, to: str, low: int, high: int) -> None:
    requantized(m, k, n, to, low, high)


@needs_amx
@pytest.mark.parametrize("m", [1, 5, 16, 19, 32, 33, 61, 200])
@pytest.mark.parametrize("n", [9, 48, 90])
def test_packed_requantization_of_rows_known_only_at_run_time(m: int, n: int) -> None:
    requantized(m, 68, n, "uint8", 0, 255, tirx.Var("seq", "int64"))


@needs_amx
@pytest.mark.parametrize("m", [1, 4, 16, 20])
def test_nothing_is_read_beyond_the_left_side(m: int) -> None:
    """The left side ends where memory does: the page after it may not be read."""
    import ctypes
    import mmap

    for k in (4, 60, 68, 127, 129, 250):
        steps = amx.steps_of(k)
        assert not steps.beyond
        pages = mmap.mmap(-1, 3 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        size = -(-m * k // mmap.PAGESIZE) * mmap.PAGESIZE
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0) == 0
        held = np.frombuffer(pages, np.uint8, m * k, size - m * k).reshape(m, k)
        held[:] = np.arange(m * k).reshape(m, k) % 251
        w = (np.arange(k * 20).reshape(k, 20) % 255 - 127).astype(np.int8)
        A, acc = Tensor((m, k), "uint8", "a"), Tensor((m, 20), "int32", "acc")
        result = Tensor((m, 20), "int32", "y")
        call = Call("edgert.GemmInteger", {}, [A, None], [acc], acc, [result])
        stages = amx_gemm.amx_product(call, AMX, "gemm", m, A, lambda w=w: w, k, 20, "w")
        assert stages is not None
        np.testing.assert_array_equal(run_in_place(stages, A, held, result), held.astype(np.int64) @ w)


def run_in_place(stages: list, leaf: Tensor, held: np.ndarray, result: Tensor) -> np.ndarray:
    """The result of stages that read `leaf` from where `held` lies."""
    from compiler.codegen.jit import compile_stages, stage_arrays

    arrays = stage_arrays(stages, {id(leaf): held}, [result], {})
    arrays[id(leaf)] = held
    compile_stages(stages, AMX)(arrays, {})()
    return arrays[id(result)]


@pytest.mark.parametrize("depth", [4, 24, 64, 65, 66, 100, 127, 128, 129, 144, 191, 321, 384, 1000])
def test_steps_stay_within_the_reduction_and_weights_count_once(depth: int) -> None:
    steps = amx.steps_of(depth)
    assert not steps.beyond and steps.width <= amx.ROW and steps.width % 4 == 0
    packed = amx.pack_tiles(np.ones((depth, 3), np.int8), steps)
    starts = [steps.start(i) for i in range(steps.count)]
    met = np.zeros(depth, int)
    for tile, start in zip(packed[0], starts, strict=True):
        used = tile.reshape(-1, 16, 4)[:, 0].reshape(-1)
        met[start : start + steps.width] += used
    assert (met == 1).all()
    assert not packed.reshape(-1, 16, 4)[:, 3:].any()


def test_a_short_odd_reduction_is_left_to_others() -> None:
    assert amx.steps_of(27).beyond == 1
    A, acc = Tensor((64, 27), "uint8", "a"), Tensor((64, 64), "int32", "acc")
    call = Call("edgert.GemmInteger", {}, [A, None], [acc], acc, [Tensor((64, 64), "int32", "y")])
    assert amx_gemm.amx_product(call, AMX, "gemm", 64, A, lambda: None, 27, 64, "w") is None


def windows(x: np.ndarray, w: np.ndarray, attrs: dict, zero: int) -> np.ndarray:
    """The convolution's sums in int64."""
    top, left, bottom, right = attrs["pads"]
    (sh, sw), (dh, dw) = attrs["strides"], attrs["dilations"]
    full = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero)
    kh, kw = w.shape[2:]
    height, width = (full.shape[1] - dh * (kh - 1) - 1) // sh + 1, (full.shape[2] - dw * (kw - 1) - 1) // sw + 1
    total = np.zeros((len(x), height, width, len(w)), np.int64)
    for i in range(kh):
        for j in range(kw):
            rows = full[:, i * dh : i * dh + (height - 1) * sh + 1 : sh]
            total += rows[:, :, j * dw : j * dw + (width - 1) * sw + 1 : sw] @ w[:, :, i, j].T.astype(np.int64)
    return total


def convolved(
    size: tuple, out: int, kernel: tuple, packed: bool, pads: tuple = (1, 1, 1, 1), strides: tuple = (1, 1),
    dilations: tuple = (1, 1), batch: Index | None = None,
) -> None:  # fmt: skip
    """Checks one convolution: int32 sums plus another tensor, or packed bytes."""
    rng = np.random.default_rng(sum(size) + out)
    x = rng.integers(0, 256, size).astype(np.uint8)
    w = rng.integers(-128, 128, (out, size[3], *kernel)).astype(np.int8)
    zero = np.array(131, np.uint8)
    attrs = {"pads": pads, "strides": strides, "dilations": dilations}
    sums = windows(x, w, attrs, 131)
    shape = sums.shape if batch is None else (batch, *sums.shape[1:])
    X = Tensor((shape[0], *size[1:]), "uint8", "x")
    W, Z = Tensor(w.shape, "int8", "w", data=lambda: w), Tensor((), "uint8", "z", data=lambda: zero)
    acc, result = Tensor(shape, "int32", "acc"), Tensor(shape, "uint8" if packed else "int32", "y")
    feeds = {id(X): x}
    if packed:
        bias = rng.integers(-999, 999, out).astype(np.int32)
        scale = np.array([0.5 / np.abs(sums).max() * 255], np.float32)
        B, S = (Tensor(d.shape, str(d.dtype), "c", data=lambda d=d: d) for d in (bias, scale))
        final = requantize(acc, B, S, 100, 0, 255, "uint8")
        want = np.clip(np.rint((sums + bias).astype(np.float32) * scale) + 100, 0, 255)
    else:
        other = rng.integers(-999, 999, sums.shape).astype(np.int32)
        R = Tensor(shape, "int32", "r")
        feeds[id(R)] = other
        final = compute(shape, "int32", lambda *i: acc(*i) + R(*i), [acc, R])
        want = sums + other
    stages = stages_for(Call("edgert.Conv2dInteger", attrs, [X, W, Z], [acc], final, [result]), AMX)
    assert stages is not None and stages[-1].kernel.endswith("_amx") and "32x" in stages[-1].kernel
    (got,) = run_stages(stages, feeds, [result], AMX, {} if batch is None else {"batch": size[0]})
    np.testing.assert_array_equal(got, want)


@needs_amx
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "size", [(1, 5, 16, 8), (1, 3, 17, 16), (2, 7, 7, 24), (1, 4, 33, 20), (1, 9, 14, 68), (1, 6, 9, 3), (2, 5, 5, 1)]
)
def test_convolutions(size: tuple, packed: bool) -> None:
    convolved(size, 40, (3, 3), packed)


@needs_amx
@pytest.mark.parametrize(
    ("kernel", "pads", "strides", "dilations"),
    [
        ((3, 3), (0, 0, 1, 1), (2, 2), (1, 1)), ((1, 1), (0, 0, 0, 0), (2, 2), (1, 1)),
        ((3, 3), (2, 2, 2, 2), (1, 1), (2, 2)), ((5, 2), (2, 0, 1, 1), (1, 3), (1, 1)),
        ((1, 9), (0, 4, 0, 4), (1, 1), (1, 1)), ((9, 9), (4, 4, 4, 4), (1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_windows(kernel: tuple, pads: tuple, strides: tuple, dilations: tuple) -> None:
    convolved((2, 11, 19, 12), 17, kernel, True, pads, strides, dilations)


@needs_amx
@pytest.mark.parametrize("images", [1, 3])
def test_convolutions_of_any_number_of_images(images: int) -> None:
    convolved((images, 5, 9, 32), 33, (3, 3), True, batch=tirx.Var("batch", "int64"))


@needs_amx
def test_one_pixel() -> None:
    convolved((1, 3, 3, 64), 40, (3, 3), False, pads=(0, 0, 0, 0))
