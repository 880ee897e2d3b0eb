"""Weights of few bits: what becomes of each spelling, against ONNX Runtime, and the bytes the artifact keeps."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

import edgert
from compiler.passes import blocked

RNG = np.random.default_rng(5)
K, N = 64, 48
CLOSE = {"atol": 2e-4}  # sums of 64 products of numbers up to 6 and 15: a few roundings of their size, 6000


def dtype_of(kind: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, kind, kind))


def matrix(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    bits, unsigned = 4 if "4" in kind else 8, kind.startswith("u")
    low, high = (0, 1 << bits) if unsigned else (-(1 << (bits - 1)), 1 << (bits - 1))
    return RNG.integers(low, high, shape).astype(dtype_of(kind))


def scales(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def weights_bytes(g) -> int:
    return edgert.load(g.folder / "model.edge").manifest["weights_bytes"]


def passes() -> list:
    return [blocked.run, blocked.late]


@pytest.mark.parametrize("kind", ["int4", "uint4", "int8"])
@pytest.mark.parametrize("product", ["MatMul(x, w)", "Gemm <transB = 1> (x, w, c)"])
def test_blocks_along_the_depth(graph, kind: str, product: str) -> None:
    swapped = "transB" in product
    shape, small = ((N, K), (N, K // 32)) if swapped else ((K, N), (K // 32, N))
    constants = {"q": matrix(kind, shape), "s": scales(*small)}
    if kind == "uint4":
        constants["z"] = matrix(kind, small)
    if swapped:
        constants["c"] = scales(N)
    zero = ", z" if "z" in constants else ""
    body = f"w = DequantizeLinear <axis = {int(swapped)}, block_size = 32> (q, s{zero}) y = {product}"
    g = graph(f"(float[3, {K}] x) -> (float[3, {N}] y)", body, opset=21, **constants)
    assert g.after(*passes()) == ["edgert.GemmBlocked", *(["Add"] if swapped else [])]
    g.same_as_reference(**CLOSE)
    bits = 4 if "4" in kind else 8
    small_ones = 4 * N * K // 32 + (N * K // 32 if zero else 0) + 4 * N + 64
    assert weights_bytes(g) <= N * K * bits // 8 + small_ones + 64 * 4, "each constant starts at a multiple of 64"


@pytest.mark.parametrize("scale", [(), (N,)])
def test_one_scale_or_one_for_each_column(graph, scale: tuple[int, ...]) -> None:
    body = "w = DequantizeLinear <axis = 1> (q, s) p = MatMul(x, w) y = Relu(p)"
    g = graph(
        f"(float[2, 3, {K}] x) -> (float[2, 3, {N}] y)", body, q=matrix("int8", (K, N)),
        s=scales(*scale) if scale else np.float32(0.5),
    )  # fmt: skip
    assert g.after(blocked.run) == ["DequantizeLinear", "MatMul", "Relu"], "may be the integer pass's"
    assert g.after(*passes()) == ["edgert.GemmBlocked", "Relu"]
    g.same_as_reference(rtol=1e-5, atol=2e-3)  # codes are 16 times as large as those of 4 bits


def test_scales_along_the_depth_become_constants(graph) -> None:
    body = "w = DequantizeLinear <axis = 0> (q, s) y = MatMul(x, w)"
    g = graph(f"(float[3, {K}] x) -> (float[3, {N}] y)", body, q=matrix("int8", (K, N)), s=scales(K))
    assert g.after(*passes()) == ["MatMul"]
    g.same_as_reference(rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("block", [0, 2])
def test_convolutions_get_constants(graph, block: int) -> None:
    attrs = f"axis = 1, block_size = {block}" if block else "axis = 0"
    body = f"w = DequantizeLinear <{attrs}> (q, s) y = Conv(x, w)"
    s = scales(8, 2, 3, 3) if block else scales(8)
    g = graph("(float[1, 4, 6, 6] x) -> (float[1, 8, 4, 4] y)", body, opset=21, q=matrix("int8", (8, 4, 3, 3)), s=s)
    assert g.after(*passes()) == ["Conv"]
    g.same_as_reference(rtol=1e-5, atol=2e-3)


ROUNDED = """
    b = Reshape(x, cubes) a = Abs(b) m = ReduceMax <keepdims = 0> (a, last) d = Div(m, most) s = Max(d, tiny)
    c = QuantizeLinear <axis = -1, block_size = 32, output_dtype = 3> (x, s)
    r = DequantizeLinear <axis = -1, block_size = 32> (c, s)
"""


def rounding(rank: int) -> dict[str, np.ndarray | float]:
    cubes = np.array([0] * (rank - 1) + [K // 32, 32], np.int64)
    return {"cubes": cubes, "last": np.array([-1], np.int64), "most": 127.0, "tiny": 1e-30}


def test_rounded_rows_are_quantized_once(graph) -> None:
    body = (
        ROUNDED
        + """
        v = DequantizeLinear <axis = 0, block_size = 32> (q, t) y = MatMul(r, v)
        w = DequantizeLinear <axis = 1, block_size = 32> (p, u) z = Gemm <transB = 1> (r, w, bias)
    """
    )
    g = graph(
        f"(float[3, {K}] x) -> (float[3, {N}] y, float[3, {N}] z)", body, opset=21, q=matrix("int4", (K, N)),
        t=scales(K // 32, N), p=matrix("int4", (N, K)), u=scales(N, K // 32), bias=scales(N), **rounding(2),
    )  # fmt: skip
    assert g.after(blocked.run) == ["edgert.QuantizeRows", "edgert.GemmInt4x8", "edgert.GemmInt4x8", "Add"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize("number", ["most", "tiny"])
def test_other_roundings_stay(graph, number: str) -> None:
    constants = rounding(2) | {number: 3.0}
    body = ROUNDED + "v = DequantizeLinear <axis = 0, block_size = 32> (q, t) y = MatMul(r, v)"
    g = graph(f"(float[3, {K}] x) -> (float[3, {N}] y)", body, opset=21, q=matrix("int4", (K, N)),
              t=scales(K // 32, N), **constants)  # fmt: skip
    assert "edgert.GemmBlocked" in g.after(blocked.run)
    g.same_as_reference(**CLOSE)


def test_rows_of_a_symbolic_number(graph) -> None:
    body = ROUNDED + "v = DequantizeLinear <axis = 0, block_size = 32> (q, t) y = MatMul(r, v)"
    g = graph(f"(float[2, S, {K}] x) -> (float[2, S, {N}] y)", body, opset=21, dims={"S": (1, 9)},
              q=matrix("int4", (K, N)), t=scales(K // 32, N), **rounding(3))  # fmt: skip
    assert g.after(blocked.run) == ["edgert.QuantizeRows", "edgert.GemmInt4x8"]
    g.same_as_reference(**CLOSE)


@pytest.mark.parametrize("kind", ["int4", "uint4"])
def test_lookups_of_four_bit_rows(graph, kind: str) -> None:
    constants = {"q": matrix(kind, (20, 50)), "s": scales(20, 2)}
    if kind == "uint4":
        constants["z"] = matrix(kind, (20, 2))
    names = ", ".join(constants)
    g = graph(
        "(int64[2, 3] ids) -> (float[2, 3, 50] y)",
        f"w = DequantizeLinear <axis = 1, block_size = 32> ({names}) y = Gather(w, ids)", opset=21, **constants,
    )  # fmt: skip
    assert g.after(blocked.run) == ["edgert.GatherBlocked"]
    edgert.compile(g.path, g.folder / "model.edge", golden=False)
    ids = np.array([[0, 5, 19], [-1, -20, 7]])
    got = edgert.load(g.folder / "model.edge").run({"ids": ids})["y"]
    zero = np.repeat(constants["z"].astype(np.float32), 32, axis=1)[:, :50] if kind == "uint4" else 0
    table = (constants["q"].astype(np.float32) - zero) * np.repeat(constants["s"], 32, axis=1)[:, :50]
    np.testing.assert_array_equal(got, table[ids])
    assert weights_bytes(g) <= 20 * 25 + 20 * 2 * 5 + 3 * 64


@pytest.mark.parametrize("scheme", ["int4", "uint4", "int4x8", "nf4", "codebook"])
def test_as_the_rewriters_write_it(tmp_path: Path, scheme: str) -> None:
    """Small products: ONNX Runtime and the artifact agree, and the weights take 4 bits and their scales."""
    from quant.quantize import quantize

    k, n = 128, 640
    w = RNG.standard_normal((k, n)).astype(np.float32)
    graph = onnx.parser.parse_graph(f"g (float[5, {k}] x) => (float[5, {n}] y) {{ p = MatMul(x, w) y = Relu(p) }}")
    graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    path, out = tmp_path / "q.onnx", tmp_path / "q.edge"
    quantize(model, path, scheme)
    edgert.compile(path, out, golden=False)
    x = RNG.standard_normal((5, k)).astype(np.float32)
    loaded = edgert.load(out)
    want = reference(path, x)
    np.testing.assert_allclose(loaded.run({"x": x})["y"], want, rtol=1e-5, atol=1e-4)  # sums of 128 products near 1
    assert loaded.manifest["weights_bytes"] <= 0.2 * w.nbytes


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("level", [0, 4])
def test_matmul_nbits(tmp_path: Path, level: int) -> None:
    """accuracy_level 4 lets activations be rounded to int8."""
    blocks = K // 32
    inputs = {"q": RNG.integers(0, 256, (N, blocks, 16)).astype(np.uint8), "s": scales(N, blocks)}
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft", K=K, N=N, bits=4, block_size=32,
        accuracy_level=level,
    )  # fmt: skip
    ports = [onnx.helper.make_tensor_value_info(name, 1, [3, size]) for name, size in (("x", K), ("y", N))]
    constants = [onnx.numpy_helper.from_array(a, name) for name, a in inputs.items()]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    x = RNG.standard_normal((3, K)).astype(np.float32)
    loaded = edgert.load(tmp_path / "m.edge")
    kernels = [step["kernel"] for step in loaded.manifest["steps"]]
    assert any("quantize_rows" in name for name in kernels) == (level == 4)
    nibbles = np.stack([inputs["q"] & 15, inputs["q"] >> 4], axis=-1).reshape(N, K).astype(float) - 8
    w = (nibbles * np.repeat(inputs["s"], 32, axis=1)).T
    if level == 4:
        cubes = x.reshape(3, blocks, 32)
        step = np.abs(cubes).max(axis=2, keepdims=True) / np.float32(127)
        x = (np.rint(cubes / step) * step).reshape(3, K)
    np.testing.assert_allclose(loaded.run({"x": x})["y"], x.astype(float) @ w, rtol=1e-5, atol=1e-4)
