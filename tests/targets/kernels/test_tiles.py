"""Rows that become bfloat16 tiles where they are many: who makes them, who reads them, and gated products between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import compile_stages, run_stages, stage_arrays
from targets.kernels.half_rows import LEAST
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor
from targets.target import Target

from .kernel_case import EPS, _isas, leaf
from .test_decoder_rows import gated, normal_rows, results
from .test_gemm_blocks import Rows, Weights, bf16, defined

AMX = _isas("x86-64-amx")
TILE = 32
HALF = 2.0**-8  # what rounding to bfloat16 may cost, of a number


def tiles_of(m: Any, k: int, name: str = "tiles") -> Tensor:
    """The leaf of m rows as tiles."""
    return Tensor(((m + (TILE - 1)) // TILE, k // TILE, TILE, TILE), "uint16", name)


def packed(real: np.ndarray) -> np.ndarray:
    """Rows as tiles."""
    whole = np.zeros((-(-len(real) // TILE) * TILE, real.shape[1]), np.uint16)
    whole[: len(real)] = (real.astype(np.float32).view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)
    return np.ascontiguousarray(whole.reshape(len(whole) // TILE, TILE, -1, TILE).transpose(0, 2, 1, 3))


def unpacked(tiles: np.ndarray, m: int) -> np.ndarray:
    """The first m rows that tiles hold, in float64."""
    rows = tiles.transpose(0, 2, 1, 3).reshape(len(tiles) * TILE, -1)[:m]
    return (rows.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(float)


@pytest.mark.parametrize("target", AMX)
@pytest.mark.parametrize("op", ["NormCodes", "QuantizeRows", "GatedCodes"])
@pytest.mark.parametrize("wanted", [3, 4])
def test_makers(target: Target, op: str, wanted: int) -> None:
    """Few rows are as without tiles, to the bit; many are the nearest bfloat16."""
    seq, k = tirx.Var("seq", "int64"), 96
    for m in (LEAST - 1, LEAST, 70):
        a, w, normal = normal_rows(m, k)
        up = (a[::-1] / 7).copy()
        feeds = {leaf(a, "x", (seq, k)): a}
        attrs: dict[str, Any] = {"block": TILE, "sums": TILE}
        want = a.astype(float)
        if op == "NormCodes":
            feeds, attrs, want = {**feeds, leaf(w, "w"): w}, {**attrs, "epsilon": 1e-5}, normal
        elif op == "GatedCodes":
            feeds, attrs = {**feeds, leaf(up, "up", (seq, k)): up}, {**attrs, "activation": "silu"}
            with np.errstate(over="ignore"):
                want = gated(a, up, "silu")
        given = {id(t): x for t, x in feeds.items()}
        codes, outs = results(seq, k, TILE, wanted), [*results(seq, k, TILE, wanted), tiles_of(seq, k)]
        made = [
            stages_for(Call(f"edgert.{op}", {**attrs, "tiles": more}, [*feeds], o, o[0], o), target)
            for more, o in ((0, codes), (1, outs))
        ]
        assert made[0] is not None
        assert made[1] is not None
        got = run_stages(made[1], given, outs, target, {"seq": m})
        if m < LEAST:
            for one, other in zip(got, run_stages(made[0], given, codes, target, {"seq": m}), strict=False):
                np.testing.assert_array_equal(one, other)
        else:
            error = np.abs(unpacked(got[-1], m) - want)
            assert (error <= (HALF + 16 * EPS) * np.abs(want) + 16 * EPS * np.abs(a).max()).all()


def test_definition() -> None:
    a = np.random.default_rng(0).standard_normal((35, 64)).astype(np.float32)
    A = leaf(a, "a")
    *_, tiles = defined("QuantizeRows", {"block": TILE, "tiles": 1}, [A], {A: a}, 5)
    np.testing.assert_array_equal(tiles, packed(a))


@pytest.mark.parametrize("target", AMX)
@pytest.mark.parametrize("names", [("q4_1", "q4_1"), ("q5_0", "q8_0"), ("q4_k", "q4_k"), ("q6_k", "q8_0")])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gated_products(target: Target, names: tuple[str, str], activation: str) -> None:
    seq, k, n = tirx.Var("seq", "int64"), 256, 160
    weights = [Weights(name, n, k) for name in names]
    other = weights[1]  # its columns turned around: not the same as the first ones
    other.leaves = [
        None if t is None else leaf(t.data()[::-1].copy(), f"up {t.name}", None, True) for t in other.leaves
    ]
    other.real = other.real[::-1]
    sums = [0 if w.kind.minimum else min(TILE, w.kind.size) for w in weights]  # each has its own
    leaves, outs = [[*Rows(1, k, each, seq).feeds] for each in sums], [*results(seq, n, TILE), tiles_of(seq, n, "out")]
    left = tiles_of(seq, k)
    operands = [[x[2], *w.leaves, *[None] * (6 - len(w.leaves))] for x, w in zip(leaves, weights, strict=True)]
    attrs = {name: [w.attrs[name] for w in weights] for name in ("bits", "size", "zero")}
    attrs |= {"block": TILE, "sums": TILE, "activation": activation, "tiles": 1}
    inputs = [*leaves[0][:2], *operands[0], *operands[1], left]
    stages = stages_for(Call("edgert.GatedBlocks", attrs, inputs, outs, outs[0], outs), target)
    assert stages is not None
    prepare = compile_stages(stages, target)
    for m in (1, 7, 9, 20, LEAST, 130, 290):
        several, dims = [Rows(m, k, each) for each in sums], {"seq": m}
        rows, feeds = several[0], {id(left): packed(several[0].real)}
        for x, made in zip(leaves, several, strict=True):
            feeds |= {id(t): a for t, a in zip(x, made.feeds.values(), strict=True)}
        arrays = stage_arrays(stages, feeds, outs, dims)
        prepare(arrays, dims)()
        many = m >= LEAST
        near = bf16 if many else (lambda real: real)
        gate, up = (near(rows.real) @ near(w.real).T for w in weights)
        with np.errstate(over="ignore"):
            want = gated(gate, up, activation)
        # sums may be off by roundings of their terms, which the other factor multiplies
        most = [np.abs(rows.real).sum(axis=1, keepdims=True) * np.abs(w.real).max() for w in weights]
        error = 16 * EPS * (most[0] * (np.abs(up) + most[1] * EPS) + most[1] * np.abs(gate))
        if many:
            assert (np.abs(unpacked(arrays[id(outs[-1])], m) - want) <= error + HALF * np.abs(want)).all()
        else:
            codes, scales = (arrays[id(o)] for o in outs[:2])
            steps = np.repeat(scales.astype(float), TILE, axis=1)
            assert (np.abs(codes * steps - want) <= error + steps * 0.51).all()
