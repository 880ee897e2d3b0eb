"""Kernels of Cortex-M4 and M55: convolutions and products of awkward sizes give the laptop's answers to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from quant.quantize import quantize
from targets.kernels.mve import pack_steps
from tests.mcu.test_simulators import need_qemu, on_device, on_laptop

# output channels, weights' other sizes, attributes: depths and channels that are no multiples of 16 and 4 among them
LAYERS = [
    ((16, 3, 3, 2), dict(pads=[1, 0, 2, 1], strides=[1, 2])),
    ((16, 1, 3, 3), dict(pads=[1, 1, 1, 1], group=16)),
    ((20, 16, 1, 1), dict()),
    ((20, 1, 5, 3), dict(pads=[2, 1, 2, 1], group=20, strides=[2, 1])),
    ((7, 20, 1, 1), dict()),
    ((7, 1, 3, 2), dict(pads=[2, 0, 2, 2], group=7, dilations=[2, 2])),
    ((6, 7, 3, 1), dict(dilations=[2, 1])),
]


def awkward(folder: Path, seen: list[dict[str, np.ndarray]]) -> Path:
    """A network of LAYERS as QDQ int8."""
    rng, nodes, weights, x = np.random.default_rng(5), [], [], "image"
    for i, (shape, attrs) in enumerate(LAYERS):
        scale = 2 / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], f"conv{i}", **attrs))
        nodes.append(helper.make_node("Relu" if i % 2 else "Identity", [f"c{i}"], [f"y{i}"], f"act{i}"))
        x = f"y{i}"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 11, 21])
    out = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "awkward", [image], [out], weights)
    plain, made = folder / "f32.onnx", folder / "awkward.onnx"
    opset = [helper.make_opsetid("", 21)]
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=10))
    onnx.save(model, plain)
    quantize(plain, made, "int8", seen)
    return made


@pytest.mark.parametrize("core", ["cortex-m4", pytest.param("cortex-m55", marks=pytest.mark.apt)])
def test_awkward_sizes(core: str, tmp_path: Path) -> None:
    if core == "cortex-m55":
        need_qemu(core)
    rng = np.random.default_rng(3)
    inputs = [{"image": rng.standard_normal((1, 3, 11, 21)).astype(np.float32)} for _ in range(3)]
    model, path = awkward(tmp_path, inputs), tmp_path / "awkward.elf"
    edgert.compile(model, path, target=core, emit="elf")
    outputs, _ = on_device(path, f"sim://{core}", inputs)
    for got, want in zip(outputs, on_laptop(model, tmp_path, inputs), strict=True):
        assert np.ptp(want) > 0
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


def test_weights_are_packed_by_16_along_the_depth() -> None:
    matrix = np.random.default_rng(0).integers(-128, 128, (6, 20)).astype(np.int8)
    packed = pack_steps(matrix).reshape(2, 2, 4, 16)  # panel, step, column, byte
    for column in range(6):
        rest = packed[column // 4, :, column % 4].reshape(-1)
        assert np.array_equal(rest[:20], matrix[column]) and not rest[20:].any()
