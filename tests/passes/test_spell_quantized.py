"""Quantized operators spelled as QDQ: the nodes that come out, and that they give what the operators give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.frontend import load
from compiler.passes import spell_quantized
from compiler.passes.edit import Edit

from .quantized import (
    DQ,
    FLOAT,
    I8,
    MS,
    TARGET,
    U8,
    Q,
    by_onnxruntime,
    f32,
    model_of,
    real,
    rng,
    scales,
    spelled,
    u8,
    whole,
    written,
)  # fmt: skip


def qconv(columns: bool, bias: bool) -> list[np.ndarray | None]:
    w_scale = scales(4) if columns else f32(0.007)
    w_zero = np.zeros(4, np.int8) if columns else np.int8(0).reshape(())
    return [whole(U8, 1, 3, 9, 8), f32(0.02), u8(120), whole(I8, 4, 3, 3, 3), w_scale, w_zero, f32(0.31), u8(110),
            rng(4).integers(-5000, 5000, 4, dtype=np.int32) if bias else None]  # fmt: skip


def qgemm(columns: bool, c: tuple | None, out: bool) -> list[np.ndarray | None]:
    n = (6,) if columns else ()
    inputs = [whole(U8, 4, 31), f32(0.02), u8(131), whole(I8, 6, 31), scales(*n), np.zeros(n, np.int8),
              None if c is None else rng(8).integers(-30000, 30000, c, dtype=np.int32)]  # fmt: skip
    return [*inputs, f32(0.91), u8(121)] if out else inputs


UNARY = [whole(U8, 2, 5, 6, 7), f32(0.0217), u8(131), f32(0.0119), u8(17)]
BINARY = [whole(U8, 2, 5, 6), f32(0.0217), u8(131), whole(U8, 5, 1), f32(0.0313), u8(77), f32(0.0447), u8(100)]
CONCAT = [f32(0.031), u8(9), whole(U8, 2, 5), f32(0.0217), u8(131), whole(U8, 2, 3), f32(0.031), u8(9)]
SAME = [f32(0.031), u8(9), whole(U8, 2, 5), f32(0.031), u8(9), whole(U8, 2, 3), f32(0.031), u8(9)]
QMATMUL = [whole(U8, 2, 4, 30), f32(0.02), u8(120), whole(I8, 30, 5), scales(5), np.zeros(5, np.int8), f32(0.7), u8(99)]
TOFLOAT = [whole(U8, 2, 4, 30), whole(I8, 30, 5), f32(0.02), scales(5), u8(120), np.zeros(5, np.int8), real(5)]
CASES: dict[str, tuple[str, str, list, tuple, np.dtype, dict, list[str]]] = {
    "conv": ("QLinearConv", "", qconv(True, True), (0,), U8, {"pads": [1, 1, 1, 1]}, [DQ, DQ, DQ, "Conv", Q]),
    "conv, one scale": ("QLinearConv", "", qconv(False, False), (0,), U8, {"strides": [2, 1]}, [DQ, DQ, "Conv", Q]),
    "matmul": ("QLinearMatMul", "", QMATMUL, (0,), U8, {}, [DQ, DQ, "MatMul", Q]),
    "add": ("QLinearAdd", MS, BINARY, (0, 3), U8, {}, [DQ, DQ, "Add", Q]),
    "mul": ("QLinearMul", MS, BINARY, (0, 3), U8, {}, [DQ, DQ, "Mul", Q]),
    "sigmoid": ("QLinearSigmoid", MS, UNARY, (0,), U8, {}, [DQ, "Sigmoid", Q]),
    "leaky": ("QLinearLeakyRelu", MS, UNARY, (0,), U8, {"alpha": 0.2}, [DQ, "LeakyRelu", Q]),
    "softmax": ("QLinearSoftmax", MS, UNARY, (0,), U8, {"axis": 1, "opset": 13}, [DQ, "Softmax", Q]),
    "old softmax": ("QLinearSoftmax", MS, UNARY, (0,), U8, {"axis": 3, "opset": 12}, [DQ, "Softmax", Q]),
    "global pool": ("QLinearGlobalAveragePool", MS, UNARY, (0,), U8, {}, [DQ, "GlobalAveragePool", Q]),
    "pool": ("QLinearAveragePool", MS, UNARY, (0,), U8, {"kernel_shape": [3, 2]}, [DQ, "AveragePool", Q]),
    "concat": ("QLinearConcat", MS, CONCAT, (2, 5), U8, {"axis": 1}, [DQ, DQ, "Concat", Q]),
    "concat of one scale": ("QLinearConcat", MS, SAME, (2, 5), U8, {"axis": 1}, ["Concat"]),
    "quantize": (Q, MS, [real(3, 4), scales(4), whole(I8, 4)], (0,), I8, {"axis": 1}, [Q]),
    "dequantize": (DQ, MS, [whole(I8, 3, 4), scales(4), whole(I8, 4)], (0,), FLOAT, {"axis": 1}, [DQ]),
    "gemm": ("QGemm", MS, qgemm(True, (6,), True), (0,), U8, {"transB": 1}, [DQ, DQ, DQ, "Gemm", Q]),
    "gemm, alpha": ("QGemm", MS, qgemm(True, (), True), (0,), U8, {"transB": 1, "alpha": 1.3},
                    [DQ, DQ, DQ, "Gemm", Q]),
    "gemm to float": ("QGemm", MS, qgemm(False, (4, 6), False), (0,), FLOAT, {"transB": 1}, [DQ, DQ, DQ, "Gemm"]),
    "gemm without C": ("QGemm", MS, qgemm(False, None, True), (0,), U8, {"transB": 1}, [DQ, DQ, "Gemm", Q]),
    "to float": ("MatMulIntegerToFloat", MS, TOFLOAT, (0,), FLOAT, {}, ["MatMulInteger", "Cast", "Mul", "Add"]),
    "dynamic": ("DynamicQuantizeMatMul", MS, [real(3, 30), whole(I8, 30, 5), scales(5), np.zeros(5, np.int8)], (0,),
                FLOAT, {}, ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_spelled(name: str, tmp_path: Path) -> None:
    op, domain, inputs, given, dtype, attrs, nodes = CASES[name]
    model = model_of(op, domain, inputs, given, dtype, **attrs)
    edit = spelled(tmp_path, model)
    constant = [n for n in edit.graph if any(v.name not in edit.facts.constants for v in n.outputs)]
    assert sorted(n.op_type for n in constant) == sorted(nodes)
    assert not any(n.domain for n in edit.graph)
    feeds = {f"i{k}": inputs[k] for k in given}
    wanted, got = by_onnxruntime(model, feeds), by_onnxruntime(written(edit), feeds)
    if dtype == FLOAT:
        # both are integer sums, exact in float32 below 2^24, scaled with three roundings in another order
        np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-7 * float(np.abs(wanted).max()))
        return
    apart = np.abs(got.astype(int) - wanted.astype(int))
    # exact but for ties, which the scales make rare
    assert apart.max() <= 1 and apart.sum() <= max(1, 0.003 * apart.size), f"{apart.sum()} of {apart.size}"


def nbits(zeros: str, bits: int, k: int = 72, size: int = 32) -> tuple[onnx.ModelProto, np.ndarray]:
    n, count, a = 5, -(-k // size), real(3, k)
    width = -(-count * bits // 8)
    packed = {"none": None, "some": whole(U8, n, width),
              "middle": np.full((n, width), {2: 0xAA, 4: 0x88, 8: 0x80}[bits], np.uint8)}[zeros]  # fmt: skip
    inputs = [a, whole(U8, n, count, size * bits // 8), scales(n, count), packed, None, real(n)]
    attrs = {"K": k, "N": n, "block_size": size, "bits": bits, "accuracy_level": 1}
    return model_of("MatMulNBits", MS, inputs, (0,), FLOAT, **attrs), a


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["none", "middle", "some"])
def test_matmul_nbits(zeros: str, bits: int, tmp_path: Path) -> None:
    # ONNX Runtime wants every block of its own DequantizeLinear whole, so a depth of 64
    model, a = nbits(zeros, bits, 64)
    edit = spelled(tmp_path, model)
    assert [n.op_type for n in edit.graph] == [DQ, "MatMul", "Add"]
    (dq,) = edit.nodes(DQ)
    kind = "int" if zeros != "some" else "uint"
    assert edit.dtype(dq.inputs[0]) == f"{kind}{bits}" and edit.shape(dq.inputs[0]) == (64, 5)
    assert edit.shape(dq.inputs[1]) == (2, 5)
    wanted, got = by_onnxruntime(model, {"i0": a}), by_onnxruntime(written(edit), {"i0": a})
    # sums of 64 float32 products in another order
    np.testing.assert_allclose(got, wanted, rtol=0, atol=64 * 6e-8 * float(np.abs(wanted).max()))


def test_matmul_nbits_with_a_short_last_block_compiles(tmp_path: Path) -> None:
    import edgert

    model, a = nbits("some", 4)
    edit = spelled(tmp_path, model)
    assert edit.shape(edit.nodes(DQ)[0].inputs[1]) == (3, 5)
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    got = edgert.load(tmp_path / "m.edge").run({"i0": a})["y"]
    wanted = by_onnxruntime(model, {"i0": a})
    np.testing.assert_allclose(got, wanted, rtol=0, atol=72 * 6e-8 * float(np.abs(wanted).max()))


def stays(folder: Path, model: onnx.ModelProto) -> bool:
    onnx.save(model, folder / "m.onnx")
    graph, facts = load(folder / "m.onnx")
    assert not facts.problems
    return not spell_quantized.run(Edit(graph, facts), TARGET)


def test_what_has_no_such_form_stays(tmp_path: Path) -> None:
    computed = model_of("QLinearSigmoid", MS, UNARY, (0, 1), U8)
    last = model_of("QLinearGlobalAveragePool", MS, UNARY, (0,), U8, channels_last=1)
    weights = model_of("QLinearConv", "", qconv(True, True), (0, 3), U8)
    rows = model_of(
        "QLinearMatMul", "", [*QMATMUL[:1], scales(2, 4, 1), np.zeros((2, 4, 1), np.uint8), *QMATMUL[3:]], (0,), U8
    )
    for model in (computed, last, weights, rows):
        assert stays(tmp_path, model)


def test_lstm(tmp_path: Path) -> None:
    """What it computes is compared in tests/ops/test_contrib_lstm.py."""
    i, h = 5, 6
    inputs = [real(7, 1, i), whole(U8, 2, i, 4 * h), whole(I8, 2, h, 4 * h), real(2, 8 * h), None, None, None, None,
              scales(2), whole(U8, 2), scales(2), np.zeros(2, np.int8)]  # fmt: skip
    edit = spelled(tmp_path, model_of("DynamicQuantizeLSTM", MS, inputs, (0,), FLOAT, hidden_size=h,
                                      direction="bidirectional"))  # fmt: skip
    ops = [n.op_type for n in edit.graph]
    # both directions' weights in one product, or two where they are too wide for int8
    assert ops[0] == "DynamicQuantizeLinear" and ops.count("MatMulInteger") in (1, 2) and ops[-1] == "DynamicLstmSteps"
    assert edit.shape(edit.graph.outputs[0]) == (7, 2, 1, h)
