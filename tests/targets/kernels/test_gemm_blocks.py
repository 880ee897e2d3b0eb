"""Products with weights as GGUF's types have them, and rows of them, against numpy in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import compile_stages, run_stages, stage_arrays
from compiler.ops.registry import Node, find
from targets.kernels.block_codes import BlockCodes
from targets.kernels.half_rows import LEAST
from targets.kernels.nest import lower_nest
from targets.kernels.registry import Call, stages_for
from targets.kernels.stage import Const
from targets.kernels.tensor import Tensor, compute
from targets.target import Target

from .kernel_case import ARM_ISAS, BYTE_ISAS, assert_close, leaf, run


@dataclass(frozen=True)
class Kind:
    """One of GGUF's types: how many bits, weights that share a scale, zero point or minima, super scales."""

    bits: int
    size: int = 32
    zero: int = 0
    minimum: bool = False
    supers: bool = False
    planes: int = 0


KINDS = {
    "q4_0": Kind(4, zero=8), "q4_1": Kind(4, minimum=True), "q5_0": Kind(5, zero=16), "q5_1": Kind(5, minimum=True),
    "q8_0": Kind(8, zero=128), "q4_k": Kind(4, minimum=True, supers=True), "q5_k": Kind(5, minimum=True, supers=True),
    "q8_0 in planes": Kind(8, zero=128, planes=2), "q8_0 in planes of 5 and 3": Kind(8, zero=128, planes=3),
    "q6_k": Kind(6, 16, zero=32, supers=True), "single scales": Kind(6, 16, zero=32),
}  # fmt: skip


class Weights:
    """Random weights of a kind as leaves, and as float64 [N, K]."""

    def __init__(self, name: str, n: int, k: int, extreme: int | None = None) -> None:
        rng, kind = np.random.default_rng(n * 101 + k), KINDS[name]
        self.kind, blocks = kind, k // kind.size
        codes = rng.integers(0, 1 << kind.bits, (n, k)).astype(np.uint8)
        if extreme is not None:
            codes[:] = extreme
        super_scale = super_minimum = minimum = None
        if kind.supers:
            super_scale = rng.uniform(0.01, 0.02, (n, k // 256)).astype(np.float16)
            low, dtype = (0, np.uint8) if kind.minimum else (-64, np.int8)
            scale = rng.integers(low, 64, (n, blocks)).astype(dtype)
            by = np.repeat(super_scale.astype(float), 256 // kind.size, axis=1) * scale
            if kind.minimum:
                super_minimum, minimum = (super_scale * 8).astype(np.float16), scale[::-1].copy()
                least = -np.repeat(super_minimum.astype(float), 256 // kind.size, axis=1) * minimum
        else:
            scale = rng.uniform(0.5, 1.5, (n, blocks)).astype(np.float32)
            scale = scale if name == "single scales" else scale.astype(np.float16)
            by = scale.astype(float)
            if kind.minimum:
                minimum = (scale * -8).astype(np.float16)
                least = minimum.astype(float)
        self.real = (codes.astype(float) - kind.zero) * np.repeat(by, kind.size, axis=1)
        if kind.minimum:
            self.real += np.repeat(least, kind.size, axis=1)
        arrays = (codes, scale, minimum, super_scale, super_minimum)
        self.leaves: list[Any] = [
            None if a is None else leaf(a, f"{name} {i}", constant=True) for i, a in enumerate(arrays)
        ]
        self.attrs = {"bits": kind.bits, "size": kind.size, "zero": kind.zero, "planes": kind.planes}


def quantized(a: np.ndarray, sums: int) -> list[np.ndarray]:
    """Codes, scales, offsets and scaled sums as QuantizeRows(block=32, sums=sums) defines them."""
    m, k = a.shape
    cubes = a.reshape(m, k // 32, 32)
    scale = np.maximum(np.abs(cubes).max(axis=2) / np.float32(127), np.float32(1e-30))
    codes = np.rint(cubes / scale[:, :, None]).clip(-128, 127).astype(np.int8).reshape(m, k)
    offsets = (-8 * codes.reshape(m, -1, sums).astype(np.int32).sum(axis=2)).astype(np.int32)
    whole = codes.reshape(m, -1, 32).astype(np.int32).sum(axis=2)
    return [codes, scale, offsets, whole.astype(np.float32) * scale]


class Rows:
    """Random rows, quantized, as leaves and arrays and as float64 [M, K]."""

    def __init__(self, m: int, k: int, sums: int, rows: tirx.Expr | None = None) -> None:
        """sums: 0 for the scaled ones, in float."""
        a = np.random.default_rng(m * 7 + k).standard_normal((m, k)).astype(np.float32)
        codes, scales, offsets, scaled = quantized(a, sums or 32)
        arrays = [codes, scales, offsets if sums else scaled]
        self.feeds = {
            leaf(a, f"x{i}", (m if rows is None else rows, a.shape[1])): a for i, a in enumerate(arrays)
        }  # fmt: skip
        self.real = codes.astype(float) * np.repeat(scales.astype(float), 32, axis=1)


def check(got: np.ndarray, x: Rows, w: Weights, add: np.ndarray | float = 0.0, target: Target | None = None) -> None:
    """The minimum and what it is taken from may be larger than their sum: terms of their own.

    target: where it multiplies so many rows in bfloat16, so are the factors here.
    """
    most, wide = np.abs(w.real).max(), target is not None and target.tiles == "amx" and len(got) >= LEAST
    want = bf16(x.real) @ bf16(w.real).T if wide else x.real @ w.real.T
    assert_close(got, want + add, np.abs(x.real).sum(axis=1, keepdims=True) * most + np.abs(add))


def bf16(real: np.ndarray) -> np.ndarray:
    """float32's nearest bfloat16, halves away from zero, in double precision."""
    bits = real.astype(np.float32).view(np.uint32) + np.uint32(0x8000)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(float)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("m", "n", "k", "sums"), [(1, 70, 256, 0), (2, 16, 512, 16), (33, 37, 256, 32)])
def test_every_type(target: Target, name: str, m: int, n: int, k: int, sums: int) -> None:
    w = Weights(name, n, k)
    x = Rows(m, k, sums if w.kind.minimum else min(sums or 32, w.kind.size))
    more = np.random.default_rng(1).standard_normal((m, n)).astype(np.float32)
    residual = leaf(more, "residual")
    got = run(
        "edgert.GemmBlocks", w.attrs, [*x.feeds, *w.leaves], (m, n), {**x.feeds, residual: more}, target,
        lambda o: compute((m, n), "float32", lambda i, j: o(i, j) + residual(i, j), [o, residual]),
    )  # fmt: skip
    check(got, x, w, more, target)


@pytest.mark.parametrize("target", ARM_ISAS)
@pytest.mark.parametrize("name", ["q4_1", "q5_0", "q6_k", "q8_0"])
def test_on_emulated_arm(target: Target, name: str) -> None:
    w = Weights(name, 26, 256)
    x = Rows(3, 256, 0 if w.kind.minimum else w.kind.size)
    check(run("edgert.GemmBlocks", w.attrs, [*x.feeds, *w.leaves], (3, 26), x.feeds, target), x, w)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("name", ["q4_1", "q5_0", "q6_k", "q8_0", "q8_0 in planes", "q8_0 in planes of 5 and 3"])
def test_rows_known_at_run_time(target: Target, name: str) -> None:
    rows, k, n = tirx.Var("seq", "int64"), 256, 150
    w = Weights(name, n, k)
    sums = 0 if w.kind.minimum else w.kind.size
    leaves = list(Rows(1, k, sums, rows).feeds)
    out, result = Tensor((rows, n), "float32", "o"), Tensor((rows, n), "float32", "r")
    stages = stages_for(Call("edgert.GemmBlocks", w.attrs, [*leaves, *w.leaves], [out], out, [result]), target)
    assert stages is not None
    prepare = compile_stages(stages, target)
    for m in (1, 2, 5, 11, 16, 33, 70, 300):
        x, dims = Rows(m, k, sums), {"seq": m}
        feeds = {id(t): a for t, a in zip(leaves, x.feeds.values(), strict=True)}
        arrays = stage_arrays(stages, feeds, [result], dims)
        prepare(arrays, dims)()
        check(arrays[id(result)], x, w, target=target)


@pytest.mark.parametrize("target", BYTE_ISAS + ARM_ISAS)
@pytest.mark.parametrize("name", ["q4_0", "q5_0", "q6_k", "q8_0"])
@pytest.mark.parametrize("x", [127, -127])
def test_extreme_bytes_do_not_saturate(target: Target, name: str, x: int) -> None:
    """All codes at their limits, scales 1: the sums are whole numbers below 2^24 and have to be exact."""
    kind, n, k = KINDS[name], 16, 64
    for code in (0, (1 << kind.bits) - 1):
        leaves = [
            leaf(np.full((n, k), code, np.uint8), "c", constant=True),
            leaf(np.ones((n, k // kind.size), np.float16), "s", constant=True),
        ]
        offsets = np.full((2, k // kind.size), -8 * kind.size * x, np.int32)
        arrays: list[np.ndarray] = [np.full((2, k), x, np.int8), np.ones((2, 2), np.float32), offsets]
        feeds = {leaf(a, f"x{i}"): a for i, a in enumerate(arrays)}
        attrs = {"bits": kind.bits, "size": kind.size, "zero": kind.zero}
        got = run("edgert.GemmBlocks", attrs, [*feeds, *leaves], (2, n), feeds, target)
        np.testing.assert_array_equal(got, np.full((2, n), float(k * (code - kind.zero) * x)))


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("name", KINDS)
def test_rows_of_a_table(target: Target, name: str) -> None:
    w = Weights(name, 37, 512)
    ids = np.array([[0, 36, 5], [-1, 17, -37]], np.int64)
    IDS = leaf(ids, "ids")
    got = run(
        "edgert.GatherBlocks", w.attrs, [IDS, *w.leaves], (2, 3, 512), {IDS: ids}, target,
        lambda o: compute((2, 3, 512), "float32", lambda *i: o(*i) * tirx.const(2.0, "float32"), [o]),
    )  # fmt: skip
    # one rounding of each product, one of their sum
    np.testing.assert_allclose(got, 2 * w.real[ids], rtol=0, atol=4 * 2**-23 * np.abs(w.real).max())


@pytest.mark.parametrize(
    ("name", "most"),
    [("q4_0", 4.5), ("q4_1", 5), ("q5_0", 5.5), ("q5_1", 6), ("q8_0", 8.5), ("q4_k", 4.625), ("q5_k", 5.625),
     ("q6_k", 6.5625)],
)  # fmt: skip
def test_no_more_bits_than_stored(name: str, most: float) -> None:
    """GGUF's own size; its K-quants squeeze eight scales into six bytes, which are eight here."""
    k, n = 1024, 64
    w = Weights(name, n, k)
    held = BlockCodes.of(w.attrs, w.leaves, BYTE_ISAS[2].values[0])
    assert held is not None
    assert int(np.prod(held.const().shape)) * 8 <= most * k * n


def test_a_table_that_is_an_output_layer_is_stored_once() -> None:
    target, w = BYTE_ISAS[0].values[0], Weights("q4_1", 64, 256)
    ids, x = Tensor((3,), "int64", "ids"), Rows(1, 256, 32)
    keys = set()
    for op, inputs, shape in (("Gather", [ids], (3, 256)), ("Gemm", [*x.feeds], (1, 64))):
        out = Tensor(shape, "float32", "o")
        stages = stages_for(Call(f"edgert.{op}Blocks", w.attrs, [*inputs, *w.leaves], [out], out, [out]), target)
        assert stages is not None
        keys |= {t.key for s in stages for t in s.operands if isinstance(t, Const) and t.dtype == "uint8"}
    assert len({key for key in keys if "amx" not in key}) == 1


def defined(
    op: str, attrs: dict, inputs: list[Any], feeds: dict[Tensor, np.ndarray], wanted: int = 1
) -> list[np.ndarray]:  # fmt: skip
    """The operator's outputs by its definition, as generic loop nests."""
    target = BYTE_ISAS[0].values[0]
    definition = find("edgert", op, 1)
    assert definition is not None
    made = definition.lower(Node(op, "edgert", 1, op, inputs, attrs, [True] * wanted, [None] * len(inputs)))
    tensors = [made] if isinstance(made, Tensor) else list(cast(list[Tensor], made))
    outs = [Tensor(t.shape, t.dtype, "out") for t in tensors]
    stages = lower_nest(list(zip(tensors, outs, strict=True)), target, op.lower())
    known = {id(t): t.data() for t in inputs if t is not None and t.data is not None}
    return run_stages(stages, known | {id(t): a for t, a in feeds.items()}, outs, target)


@pytest.mark.parametrize("name", ["q4_1", "q4_k", "q6_k"])
def test_definitions(name: str) -> None:
    w = Weights(name, 5, 256)
    a = np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32)
    A = leaf(a, "a")
    arrays = defined("QuantizeRows", {"block": 32, "sums": w.kind.size}, [A], {A: a}, 4)
    for got, want in zip(arrays, quantized(a, w.kind.size), strict=True):
        np.testing.assert_array_equal(got, want)
    x = Rows(3, 256, 0 if w.kind.minimum else w.kind.size)
    (got,) = defined("GemmBlocks", w.attrs, [*x.feeds, *w.leaves], x.feeds)
    check(got, x, w)
    ids = np.array([4, -5], np.int64)
    IDS = leaf(ids, "ids")
    (got,) = defined("GatherBlocks", w.attrs, [IDS, *w.leaves], {IDS: ids})
    np.testing.assert_allclose(got, w.real[ids], rtol=0, atol=4 * 2**-23 * np.abs(w.real).max())


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize(("m", "k"), [(1, 64), (5, 96)])
def test_rows_with_sums_of_halves(target: Target, m: int, k: int) -> None:
    a = np.random.default_rng(k).standard_normal((m, k)).astype(np.float32)
    A = leaf(a, "a")
    kinds = (("int8", k), ("float32", k // 32), ("int32", k // 16), ("float32", k // 32))
    outs = [Tensor((m, width), dtype, f"o{i}") for i, (dtype, width) in enumerate(kinds)]
    stages = stages_for(Call("edgert.QuantizeRows", {"block": 32, "sums": 16}, [A], outs, outs[0], outs), target)
    assert stages is not None
    for got, want in zip(run_stages(stages, {id(A): a}, outs, target), quantized(a, 16), strict=True):
        np.testing.assert_array_equal(got, want)
