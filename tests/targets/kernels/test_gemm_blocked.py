"""Products with weights of few bits against numpy in double precision; packing; bytes."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets import all_targets
from targets.kernels.nibbles import pack_nibbles, shift_of
from targets.kernels.registry import Call, stages_for
from targets.kernels.stage import Const
from targets.kernels.tensor import Tensor, compute
from targets.target import Target

from .kernel_case import ARM_ISAS, BYTE_ISAS, ISAS, assert_close, leaf, run

PORTABLE = pytest.param(replace(all_targets()["x86-64-avx2"], dot="portable"), id="portable")
KINDS = ("int4", "uint4", "int8", "uint8")


def spread(values: np.ndarray, block: int, depth: int) -> np.ndarray:
    """One number for each block and column as one for each weight."""
    return np.repeat(values, block or depth, axis=0)[:depth]


class Weights:
    """Random (q - zero) * scale as leaves, and as float64 [K, N]."""

    def __init__(self, kind: str, k: int, n: int, block: int, swapped: bool = False, centred: bool = False) -> None:
        rng = np.random.default_rng(k * 101 + n)
        bits, unsigned = 4 if "4" in kind else 8, kind.startswith("u")
        low, high = (0, 1 << bits) if unsigned else (-(1 << (bits - 1)), 1 << (bits - 1))
        blocks = -(-k // block) if block else 1
        self.q = rng.integers(low, high, (k, n))
        self.scale = rng.uniform(0.5, 1.5, (blocks, n)).astype(np.float32)
        self.zero = rng.integers(low, high, (blocks, n)) if unsigned else np.zeros((blocks, n), int)
        if centred:
            self.zero[:] = 1 << (bits - 1)
        dtype = np.dtype(getattr(ml_dtypes, kind, kind))
        stored = [self.q.astype(dtype), self.scale, *([self.zero.astype(dtype)] if unsigned else [])]
        if not block:
            stored[1:] = [a[0] for a in stored[1:]]
        turned = [np.ascontiguousarray(a.T if swapped else a) for a in stored]
        self.leaves = [leaf(a, f"w{i}", constant=True) for i, a in enumerate(turned)]
        self.attrs = {"transB": int(swapped), "block": block}
        self.real = (self.q - spread(self.zero, block, k)) * spread(self.scale, block, k).astype(float)


def floats(m: int, k: int) -> np.ndarray:
    return np.random.default_rng(m * 7 + k).standard_normal((m, k)).astype(np.float32)


def held(call: Call, target: Target) -> int:
    """Bytes of what is packed for a call."""
    stages = stages_for(call, target)
    assert stages is not None
    consts = {id(c): c for s in stages for c in s.operands if isinstance(c, Const)}
    for c in consts.values():
        made = c.make()
        assert made.shape == c.shape
        assert str(made.dtype) == c.dtype
    return sum(int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize for c in consts.values())


def test_packed_words_hold_eight_numbers_of_one_column() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (21, 7)).astype(np.uint8)
    words = pack_nibbles(codes, 4)
    assert words.shape == (2, 3, 4)
    for k in range(21):
        for n in range(7):
            assert words[n // 4, k // 8, n % 4] >> shift_of(k % 8) & 15 == codes[k, n]


@pytest.mark.parametrize("target", [*ISAS, PORTABLE])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("m", "k", "n", "block", "swapped"), [(1, 33, 70, 16, False), (5, 70, 37, 32, True), (13, 64, 17, 0, False)]
)
def test_floats_times_few_bits(target, kind: str, m: int, k: int, n: int, block: int, swapped: bool) -> None:
    a, w = floats(m, k), Weights(kind, k, n, block, swapped)
    bias = leaf(floats(1, n)[0], "bias", constant=True)
    A = leaf(a, "a")
    got = run(
        "edgert.GemmBlocked", w.attrs, [A, *w.leaves], (m, n), {A: a}, target,
        lambda o: compute((m, n), "float32", lambda i, j: tirx.max(o(i, j) + bias(j), tirx.const(0.0)), [o, bias]),
    )  # fmt: skip
    assert bias.data is not None
    assert_close(got, np.maximum(a.astype(float) @ w.real + bias.data(), 0), np.abs(a) @ np.abs(w.real) + 3)


@pytest.mark.parametrize("target", ISAS)
def test_zero_points_in_the_middle_are_none(target) -> None:
    a, w = floats(3, 64), Weights("uint4", 64, 20, 32, centred=True)
    A, out, result = leaf(a, "a"), Tensor((3, 20), "float32", "o"), Tensor((3, 20), "float32", "r")
    call = Call("edgert.GemmBlocked", w.attrs, [A, *w.leaves], [out], out, [result])
    stages = stages_for(call, target)
    assert stages is not None
    assert not any(isinstance(c, Const) and c.dtype == "uint8" for c in stages[0].operands)
    (got,) = run_stages(stages, {id(A): a}, [result], target)
    assert_close(got, a.astype(float) @ w.real, np.abs(a) @ np.abs(w.real))


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("m", [1, 2, 12, 30])
def test_rows_known_at_run_time(target, m: int) -> None:
    rows = tirx.Var("seq", "int64")
    a, w = floats(m, 64), Weights("int4", 64, 150, 32)
    A = leaf(a, "a", (rows, 64))
    got = run("edgert.GemmBlocked", w.attrs, [A, *w.leaves], (rows, 150), {A: a}, target, dims={"seq": m})
    assert_close(got, a.astype(float) @ w.real, np.abs(a) @ np.abs(w.real))


@pytest.mark.parametrize("target", ISAS)
def test_four_bits_stay_four(target) -> None:
    k, n = 96, 128
    w = Weights("int4", k, n, 32)
    A, out = leaf(floats(5, k), "a"), Tensor((5, n), "float32", "o")
    call = Call("edgert.GemmBlocked", w.attrs, [A, *w.leaves], [out], out, [out])
    levels = 64  # bytes: AVX-512 takes the numbers from a table
    assert held(call, target) <= k * n // 2 + 4 * (k // 32) * n + levels
    halves = [w.leaves[0], leaf(w.scale.astype(np.float16).astype(np.float32), "s", constant=True)]
    call = Call("edgert.GemmBlocked", w.attrs, [A, *halves], [out], out, [out])
    assert held(call, target) <= k * n // 2 + 2 * (k // 32) * n + levels, "such scales fit 16 bits"


@pytest.mark.parametrize("target", [*ISAS, PORTABLE])
@pytest.mark.parametrize(
    ("m", "k", "n", "block", "tables", "swapped"),
    [(1, 40, 70, 16, 0, False), (5, 70, 37, 32, 0, True), (1, 64, 70, 0, 3, False), (14, 30, 50, 0, 4, True)],
)
def test_floats_times_looked_up(target, m: int, k: int, n: int, block: int, tables: int, swapped: bool) -> None:
    rng = np.random.default_rng(n)
    a, w = floats(m, k), Weights("uint4", k, n, block, swapped)
    table = rng.standard_normal((tables, 16) if tables else 16).astype(np.float32)
    book = rng.integers(0, tables, n).astype(np.int32) if tables else np.zeros(n, np.int32)
    levels = table[book[None, :], w.q] if tables else table[w.q]
    real = levels * spread(w.scale, block, k).astype(float)
    A, T = leaf(a, "a"), leaf(table, "t", constant=True)
    books = [leaf(book, "book", constant=True)] if tables else []
    got = run(
        "edgert.GemmLookup", w.attrs, [A, w.leaves[0], T, w.leaves[1], *books], (m, n), {A: a}, target,
        lambda o: compute((m, n), "float32", lambda i, j: o(i, j) + tirx.const(1.0), [o]),
    )  # fmt: skip
    assert_close(got, a.astype(float) @ real + 1, np.abs(a) @ np.abs(real) + 1)


def quantized(a: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and offsets as QuantizeRows defines them, in float32."""
    m, k = a.shape
    cubes = a.reshape(m, k // block, block)
    scale = np.maximum(np.abs(cubes).max(axis=2) / np.float32(127), np.float32(1e-30))
    codes = np.rint(cubes / scale[:, :, None]).clip(-128, 127).astype(np.int8)
    return codes.reshape(m, k), scale, (-8 * codes.astype(np.int32).sum(axis=2)).astype(np.int32)


@pytest.mark.parametrize("target", [*ISAS, PORTABLE])
@pytest.mark.parametrize(("m", "k", "block"), [(3, 64, 32), (5, 48, 16), (2, 256, 128)])
def test_rows_are_quantized_exactly(target, m: int, k: int, block: int) -> None:
    a = floats(m, k)
    a[0, :block] = 0
    a[-1, -block:] = np.linspace(-127, 127, block).round() / 2  # ties go to even
    A = leaf(a, "a")
    kinds = (("int8", k), ("float32", k // block), ("int32", k // block))
    outs = [Tensor((m, width), dtype, f"o{i}") for i, (dtype, width) in enumerate(kinds)]
    stages = stages_for(Call("edgert.QuantizeRows", {"block": block}, [A], outs, outs[0], outs), target)
    assert stages is not None
    for got, want in zip(run_stages(stages, {id(A): a}, outs, target), quantized(a, block), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", BYTE_ISAS + ARM_ISAS)
@pytest.mark.parametrize("kind", ["int4", "uint4"])
@pytest.mark.parametrize(
    ("m", "k", "n", "block", "swapped"),
    [(1, 64, 37, 32, False), (17, 96, 33, 32, True), (5, 32, 16, 16, False), (9, 256, 20, 128, True)],
)
def test_bytes_times_four_bits(target, kind: str, m: int, k: int, n: int, block: int, swapped: bool) -> None:
    w = Weights(kind, k, n, block, swapped)
    codes, scale, offset = quantized(floats(m, k), block)
    feeds = {leaf(x, name): x for x, name in ((codes, "codes"), (scale, "scale"), (offset, "offset"))}
    got = run("edgert.GemmInt4x8", w.attrs, [*feeds, *w.leaves], (m, n), feeds, target)
    x = codes.astype(float) * np.repeat(scale, block, axis=1)
    assert_close(got, x @ w.real, np.abs(x) @ np.abs(w.real))


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_extreme_bytes_do_not_saturate(target) -> None:
    """All codes at their limits, scales 1: the sums are whole numbers and have to be exact."""
    k, n, block = 64, 16, 32
    for q, x in ((7, 127), (-8, 127), (-8, -127)):
        w = Weights("int4", k, n, block)
        leaves = [
            leaf(np.full((k, n), q).astype(ml_dtypes.int4), "q", constant=True),
            leaf(np.ones((2, n), np.float32), "s", constant=True),
        ]
        codes = np.full((2, k), x, np.int8)
        offset = np.full((2, 2), -8 * block * x, np.int32)
        feeds = {leaf(a, name): a for a, name in ((codes, "c"), (np.ones((2, 2), np.float32), "s"), (offset, "o"))}
        got = run("edgert.GemmInt4x8", w.attrs, [*feeds, *leaves], (2, n), feeds, target)
        np.testing.assert_array_equal(got, np.full((2, n), float(k * q * x)))


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("m", [1, 16, 21])
def test_bytes_of_rows_known_at_run_time(target, m: int) -> None:
    rows = tirx.Var("seq", "int64")
    w = Weights("int4", 64, 40, 32)
    arrays = quantized(floats(m, 64), 32)
    feeds = {leaf(x, f"x{i}", (rows, x.shape[1])): x for i, x in enumerate(arrays)}
    got = run("edgert.GemmInt4x8", w.attrs, [*feeds, *w.leaves], (rows, 40), feeds, target, dims={"seq": m})
    x = arrays[0].astype(float) * np.repeat(arrays[1], 32, axis=1)
    assert_close(got, x @ w.real, np.abs(x) @ np.abs(w.real))
