"""Weights too wide for int8 around their zero point: split in two, the sums are exactly those of the operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgert
from compiler.frontend import load
from compiler.passes import dead_code, spell_quantized
from compiler.passes.edit import Edit

from .quantized import (
    FLOAT,
    I8,
    I32,
    MS,
    TARGET,
    U8,
    by_onnxruntime,
    f32,
    model_of,
    rng,
    spelled,
    u8,
    whole,
)  # fmt: skip


def full(dtype: np.dtype, *shape: int) -> np.ndarray:
    """Random, but the type's two ends are among them."""
    data = whole(dtype, *shape)
    data.reshape(-1)[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    return data


WIDE: dict[str, tuple[str, list, dict, list[str]]] = {
    "conv": ("ConvInteger", [whole(U8, 1, 3, 9, 8), full(U8, 20, 3, 3, 3), u8(131), u8(121)],
             {"pads": [1, 1, 0, 1], "strides": [1, 2]}, ["ConvInteger", "ConvInteger", "Mul", "Sub"]),
    "depthwise": ("ConvInteger", [whole(U8, 1, 5, 9, 8), full(U8, 5, 1, 3, 3), u8(131), u8(121)], {"group": 5},
                  ["ConvInteger", "ConvInteger", "Mul", "Sub"]),
    "conv of int8": ("ConvInteger", [whole(U8, 1, 3, 9, 8), full(I8, 7, 3, 1, 1), u8(131), np.int8(-5).reshape(())],
                     {}, ["ConvInteger", "ConvInteger", "Mul", "Sub"]),
    "conv that fits": ("ConvInteger", [whole(U8, 1, 3, 9, 8), whole(U8, 7, 3, 1, 1) // 2, u8(131), u8(90)], {},
                       ["ConvInteger"]),
    "groups of two": ("ConvInteger", [whole(U8, 1, 4, 9, 8), full(U8, 6, 2, 3, 3), u8(131), u8(121)], {"group": 2},
                      ["ConvInteger"]),
    "matmul": ("MatMulInteger", [whole(U8, 2, 4, 30), full(U8, 30, 5), u8(131), whole(U8, 5)], {},
               ["MatMulInteger", "MatMulInteger", "Mul", "Sub"]),
    "matmul without a left zero": ("MatMulInteger", [whole(U8, 4, 30), full(U8, 30, 5), None, u8(120)], {},
                                   ["MatMulInteger", "MatMulInteger", "Mul", "Sub"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_weights_of_nine_bits_are_split_exactly(name: str, tmp_path: Path) -> None:
    op, inputs, attrs, nodes = WIDE[name]
    model = model_of(op, "", inputs, (0,), I32, **attrs)
    onnx.save(model, tmp_path / "m.onnx")
    edit = Edit(*load(tmp_path / "m.onnx"))
    assert spell_quantized.run(edit, TARGET) == (len(nodes) > 1)
    dead_code.run(edit, TARGET)
    assert [n.op_type for n in edit.graph] == nodes
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    got = edgert.load(tmp_path / "m.edge").run({"i0": inputs[0]})["y"]
    # not by ONNX Runtime's own: its kernels for CPUs without VNNI saturate
    left = inputs[0].astype(np.int32) - (0 if inputs[2] is None else inputs[2].astype(np.int32))
    right = inputs[1].astype(np.int32) - inputs[3].astype(np.int32)
    if op == "MatMulInteger":
        np.testing.assert_array_equal(got, left @ right)
        return
    image, weights = (
        helper.make_tensor_value_info("x", 1, left.shape),
        helper.make_tensor_value_info("w", 1, right.shape),
    )
    out = helper.make_tensor_value_info("y", 1, None)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attrs)
    conv = helper.make_model(helper.make_graph([node], "g", [image, weights], [out]), ir_version=10,
                             opset_imports=[helper.make_opsetid("", 21)])  # fmt: skip
    # float32 holds these sums exactly: below 2^24
    wanted = by_onnxruntime(conv, {"x": left.astype(np.float32), "w": right.astype(np.float32)})
    np.testing.assert_array_equal(got, wanted.astype(np.int32))


Y = [f32(0.83), u8(101)]
QLINEAR: dict[str, tuple[str, str, list, dict]] = {
    "conv": ("QLinearConv", "", [whole(U8, 1, 3, 9, 8), f32(0.02), u8(131), full(U8, 20, 3, 3, 3), f32(0.011), u8(121),
                                 *Y, rng(1).integers(-5000, 5000, 20, dtype=np.int32)], {"pads": [1, 1, 1, 1]}),
    "matmul": ("QLinearMatMul", "", [whole(U8, 4, 30), f32(0.02), u8(131), full(U8, 30, 6), f32(0.011), u8(121), *Y],
               {}),
    "gemm": ("QGemm", MS, [whole(U8, 4, 30), f32(0.02), u8(131), full(U8, 6, 30), f32(0.011), u8(121),
                           rng(2).integers(-5000, 5000, 6, dtype=np.int32), *Y], {"transB": 1, "alpha": 1.3}),
    "gemm to float": ("QGemm", MS, [whole(U8, 4, 30), f32(0.02), u8(131), full(U8, 30, 6), f32(0.011), u8(121)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", QLINEAR)
def test_qlinear_operators_stay_integers(name: str, tmp_path: Path) -> None:
    op, domain, inputs, attrs = QLINEAR[name]
    dtype = FLOAT if "float" in name else U8
    model = model_of(op, domain, inputs, (0,), dtype, **attrs)
    edit = spelled(tmp_path, model)
    assert [n.op_type for n in edit.graph if n.op_type.endswith("Integer")] in (
        ["ConvInteger"] * 2,
        ["MatMulInteger"] * 2,
    )
    assert not edit.nodes("DequantizeLinear", "QLinearConv", "QLinearMatMul")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    got = edgert.load(tmp_path / "m.edge").run({"i0": inputs[0]})["y"]
    # the same integers, times a factor worked out in another order at most
    wanted = by_onnxruntime(model, {"i0": inputs[0]})
    if dtype == FLOAT:
        np.testing.assert_allclose(got, wanted, rtol=5e-7, atol=0)
    else:
        apart = np.abs(got.astype(int) - wanted.astype(int))
        assert apart.max() <= 1 and apart.sum() <= max(1, 0.002 * apart.size)
