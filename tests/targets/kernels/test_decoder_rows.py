"""Rows that are normalised or gated and quantized at once, and products of the same rows side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from compiler.ops.registry import Unsupported
from targets.kernels.joint_blocks import side_by_side
from targets.kernels.registry import Call, stages_for
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor, compute
from targets.target import Target

from .kernel_case import BYTE_ISAS, EPS, ISAS, leaf
from .test_gemm_blocks import Rows, Weights, defined, quantized

SHAPES = [(1, 64), (5, 96), (3, 576)]
BLOCK = 32


def results(m: Any, k: int, sums: int, wanted: int = 4) -> list[Tensor]:
    """Leaves for the outputs of QuantizeRows."""
    kinds = (("int8", k), ("float32", k // BLOCK), ("int32", k // sums), ("float32", k // BLOCK))
    return [Tensor((m, width), dtype, f"o{i}") for i, (dtype, width) in enumerate(kinds[:wanted])]


def codes_of(
    op: str, attrs: dict, feeds: dict[Tensor, np.ndarray], target: Target, sums: int = BLOCK, dims: Any = None
) -> list[np.ndarray]:  # fmt: skip
    """What the template of `op` gives of the fed arrays, whose order is the operator's."""
    x = next(iter(feeds))
    outs = results(x.shape[0], int(x.shape[1]), sums)
    stages = stages_for(Call(op, {**attrs, "block": BLOCK, "sums": sums}, [*feeds], outs, outs[0], outs), target)
    assert stages is not None
    return run_stages(stages, {id(t): a for t, a in feeds.items()}, outs, target, dims)


def check(got: list[np.ndarray], want: np.ndarray, error: np.ndarray, sums: int) -> None:
    """`got` stands for `want` (float64 [M, K]), which may itself be off by `error`; the sums are those of the codes.

    A code is rounded by half of its scale; of a quotient that is off by two roundings, not much more.
    """
    codes, scales, offsets, scaled = got
    m = len(want)
    steps = np.repeat(scales.astype(float), BLOCK, axis=1)
    assert (np.abs(codes * steps - want) <= steps * (0.5 + 127 * 4 * EPS) + error).all()
    most = np.abs(want).reshape(m, -1, BLOCK).max(axis=2)
    slack = error.reshape(m, -1, BLOCK).max(axis=2)
    assert (np.abs(scales * 127.0 - most) <= 4 * EPS * most + slack).all()
    whole = codes.astype(np.int32).reshape(m, -1, sums).sum(axis=2)
    np.testing.assert_array_equal(offsets, -8 * whole)
    totals = codes.astype(np.int32).reshape(m, -1, BLOCK).sum(axis=2)
    np.testing.assert_array_equal(scaled, totals.astype(np.float32) * scales)


def normal_rows(m: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of different sizes, weights, and the normalised rows in float64."""
    rng = np.random.default_rng(m * 31 + k)
    a = (rng.standard_normal((m, k)) * rng.uniform(0.01, 100, (m, 1))).astype(np.float32)
    w = rng.uniform(-2, 2, k).astype(np.float32)
    exact = a.astype(float)
    return a, w, exact / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-5) * w


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(("m", "k"), SHAPES)
@pytest.mark.parametrize("sums", [16, 32])
def test_norm_codes(target: Target, m: int, k: int, sums: int) -> None:
    a, w, want = normal_rows(m, k)
    feeds = {leaf(a, "x"): a, leaf(w, "w"): w}
    got = codes_of("edgert.NormCodes", {"epsilon": 1e-5}, feeds, target, sums)
    # the sum of squares, all positive, is off by k/lanes roundings at most; the root halves that
    check(got, want, 16 * EPS * np.abs(want), sums)


@pytest.mark.parametrize("target", ISAS)
def test_norm_codes_has_the_bits_of_its_parts(target: Target) -> None:
    a, w, _ = normal_rows(4, 576)
    A, W = leaf(a, "x"), leaf(w, "w")
    out, normal = Tensor(a.shape, "float32", "o"), Tensor(a.shape, "float32", "n")
    attrs = {"axis": -1, "epsilon": 1e-5}
    stages = stages_for(Call("RMSNormalization", attrs, [A, W], [out], out, [normal]), target)
    assert stages is not None
    (rows,) = run_stages(stages, {id(A): a, id(W): w}, [normal], target)
    want = codes_of("edgert.QuantizeRows", {}, {leaf(rows, "x"): rows}, target)
    for one, other in zip(codes_of("edgert.NormCodes", attrs, {A: a, W: w}, target), want, strict=True):
        np.testing.assert_array_equal(one, other)


def gated(gate: np.ndarray, up: np.ndarray, activation: str) -> np.ndarray:
    g = gate.astype(float)
    if activation == "silu":
        return g / (1 + np.exp(-g)) * up
    return g / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * up


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(("m", "k"), SHAPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gated_codes(target: Target, m: int, k: int, activation: str) -> None:
    rng = np.random.default_rng(k)
    gate, up = (rng.standard_normal((m, k)).astype(np.float32) * 4 for _ in range(2))
    gate[0, :4] = 0, 90, -90, 30
    feeds = {leaf(gate, "gate"): gate, leaf(up, "up"): up}
    got = codes_of("edgert.GatedCodes", {"activation": activation}, feeds, target)
    # 1 + tanh cancels for negative arguments, so the error is one of gate times up, not of the result
    check(got, gated(gate, up, activation), 8 * EPS * np.abs(gate * up), BLOCK)


@pytest.mark.parametrize("target", ISAS)
def test_rows_known_at_run_time(target: Target) -> None:
    seq, k = tirx.Var("seq", "int64"), 64
    for m in (1, 7):
        a, w, want = normal_rows(m, k)
        feeds = {leaf(a, "x", (seq, k)): a, leaf(w, "w"): w}
        got = codes_of("edgert.NormCodes", {"epsilon": 1e-5}, feeds, target, dims={"seq": m})
        check(got, want, 16 * EPS * np.abs(want), BLOCK)
        feeds = {leaf(a, "gate", (seq, k)): a, leaf(a, "up", (seq, k)): a}
        got = codes_of("edgert.GatedCodes", {"activation": "silu"}, feeds, target, dims={"seq": m})
        check(got, gated(a, a, "silu"), 8 * EPS * a.astype(float) ** 2, BLOCK)


def test_rows_of_zeros() -> None:
    target, zero = ISAS[0].values[0], np.zeros((2, 64), np.float32)
    one = np.ones(64, np.float32)
    expected = quantized(zero, BLOCK)
    feeds = {leaf(zero, "x"): zero, leaf(one, "w"): one}
    for op, attrs, given in (
        ("NormCodes", {"epsilon": 1e-5}, feeds),
        ("GatedCodes", {"activation": "silu"}, {leaf(zero, "gate"): zero, leaf(zero, "up"): zero}),
    ):
        for got, want in zip(codes_of(f"edgert.{op}", attrs, given, target), expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_definitions(activation: str) -> None:
    a, w, want = normal_rows(3, 64)
    A, W = leaf(a, "x"), leaf(w, "w")
    got = defined("NormCodes", {"epsilon": 1e-5, "block": BLOCK}, [A, W], {A: a, W: w}, 4)
    check(got, want, 16 * EPS * np.abs(want), BLOCK)
    G, U = leaf(a, "gate"), leaf(a, "up")
    attrs = {"activation": activation, "block": BLOCK}
    got = defined("GatedCodes", attrs, [G, U], {G: a, U: a}, 4)
    check(got, gated(a, a, activation), 8 * EPS * a.astype(float) ** 2, BLOCK)
    with pytest.raises(Unsupported, match="activation 'relu'"):
        defined("GatedCodes", {**attrs, "activation": "relu"}, [G, U], {G: a, U: a}, 4)


class Joint:
    """Products of the same rows with weights of several types, some with a bias: inputs, attributes and biases."""

    def __init__(self, m: int, k: int, rows: tirx.Expr | None = None) -> None:
        rng = np.random.default_rng(m)
        self.weights = [Weights("q4_1", 70, k), Weights("q6_k", 33, k), Weights("q4_1", 5, k)]
        fine, scaled = Rows(m, k, 16, rows), Rows(m, k, 0, rows)
        self.real = fine.real
        codes, scales, offsets = fine.feeds
        sums = list(scaled.feeds)[2]
        self.feeds = {**fine.feeds, sums: scaled.feeds[sums]}
        self.biases = [None, *(rng.standard_normal((w.real.shape[0],)).astype(np.float32) for w in self.weights[1:])]
        self.sums: list[Tensor] = []
        self.inputs: list[Any] = [codes, scales]
        self.leaves: list[Any] = [None if b is None else leaf(b, f"b{i}") for i, b in enumerate(self.biases)]
        self.feeds |= {t: b for t, b in zip(self.leaves, self.biases, strict=True) if t is not None}
        for w, bias in zip(self.weights, self.leaves, strict=True):
            self.sums.append(sums if w.kind.minimum else offsets)
            self.inputs += [self.sums[-1], *w.leaves, bias]
        self.attrs = {name: [w.attrs[name] for w in self.weights] for name in ("bits", "size", "zero")}
        self.outs = [Tensor((m if rows is None else rows, w.real.shape[0]), "float32", "o") for w in self.weights]
        self.results = [Tensor(o.shape, "float32", f"r{i}") for i, o in enumerate(self.outs)]

    def alone(self, i: int, target: Target) -> list[Stage]:
        """Product i by itself."""
        out, bias = self.outs[i], self.leaves[i]
        final = out if bias is None else compute(out.shape, "float32", lambda *j: out(*j) + bias(j[-1]), [out, bias])
        inputs: list[Any] = [*self.inputs[:2], self.sums[i], *self.weights[i].leaves]
        made = stages_for(
            Call("edgert.GemmBlocks", self.weights[i].attrs, inputs, [out], final, [self.results[i]]), target
        )
        assert made is not None
        return made


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_joint_products_have_the_bits_of_each_alone(target: Target) -> None:
    seq = tirx.Var("seq", "int64")
    for m in (1, 3, 19, 33):
        j = Joint(m, 256, seq)
        fed = {id(t): a for t, a in j.feeds.items()}
        call = Call("edgert.JointBlocks", j.attrs, j.inputs, j.outs, j.outs[0], j.results)
        stages = stages_for(call, target)
        # rows are made bfloat16 once for all
        assert stages is not None and len(stages) == (2 if target.tiles == "amx" else 1)
        together = run_stages(stages, fed, j.results, target, {"seq": m})
        for i, got in enumerate(together):
            (want,) = run_stages(j.alone(i, target), fed, [j.results[i]], target, {"seq": m})
            np.testing.assert_array_equal(got, want)


def test_definition_of_joint_products() -> None:
    j = Joint(2, 256)
    got = defined("JointBlocks", j.attrs, j.inputs, j.feeds, len(j.weights))
    for result, w, bias in zip(got, j.weights, j.biases, strict=True):
        want = j.real @ w.real.T + (np.float32(0) if bias is None else bias)
        # sums of 256 products, one rounding each, of terms no larger than these
        np.testing.assert_allclose(result, want, rtol=0, atol=256 * EPS * (np.abs(j.real) @ np.abs(w.real.T)).max())


def test_side_by_side_in_any_pieces() -> None:
    """A range of tasks may begin in one part and end in another: here each piece runs by itself."""
    target, j = ISAS[0].values[0], Joint(1, 256)
    stages = [j.alone(i, target)[0] for i in range(3)]
    joined = side_by_side(stages)
    assert joined.tasks == sum(int(stage.tasks) for stage in stages)
    assert len(joined.operands) == sum(len(stage.operands) for stage in stages)
    fed = {id(t): a for t, a in j.feeds.items()}
    whole = run_stages([joined], fed, j.results, target)
    pieces = run_stages([piece(joined, i) for i in range(int(joined.tasks))], fed, j.results, target)
    for got, want in zip(pieces, whole, strict=True):
        np.testing.assert_array_equal(got, want)


def piece(stage: Stage, i: int) -> Stage:
    """A kernel that runs task i of `stage` alone."""
    *others, begin, end = stage.func.params
    first, last = tirx.Var("first", "int64"), tirx.Var("last", "int64")
    body = [
        tirx.Bind(begin, first + tirx.const(i, "int64")), tirx.Bind(end, last + tirx.const(i, "int64")), stage.func.body
    ]  # fmt: skip
    func = tirx.PrimFunc([*others, first, last], tirx.SeqStmt(body)).with_attr("tirx.noalias", True)
    return Stage(f"{stage.kernel}_{i}", func, stage.operands, stage.dims, 1, 1)
