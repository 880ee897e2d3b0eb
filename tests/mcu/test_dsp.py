"""The shared kernels of cores with DSP instructions: which layers take them, and that they give the laptop's bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert.interface.simulated import open_simulated
from targets.kernels.conv2d_dsp import pack, pairs_of
from targets.kernels.dsp_calls import Tail
from tests.mcu.test_simulators import on_device, on_laptop

# output channels, weights' other sizes, attributes; tiles with pixels left over, runs of every length modulo four, pads
# on every side, both strides, planes of odd and even size
LAYERS: list[tuple[tuple[int, ...], dict]] = [
    ((6, 3, 3, 3), dict(pads=[0, 1, 1, 1], strides=[1, 2])),
    ((6, 1, 3, 3), dict(pads=[1, 1, 1, 1], group=6)),
    ((10, 6, 1, 1), dict()),
    ((10, 1, 3, 3), dict(pads=[1, 0, 1, 1], group=10, strides=[2, 2])),
    ((14, 10, 1, 1), dict()),
    ((14, 1, 3, 3), dict(pads=[0, 1, 1, 0], group=14)),
    ((2, 14, 2, 1), dict(pads=[1, 0, 0, 0], dilations=[2, 1])),
]
SIZE = (1, 3, 11, 18)


def weights_of(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """int8 with both ends of the range next to each other, and a channel of zeros."""
    made = rng.integers(-128, 128, shape).astype(np.int8)
    made.reshape(-1)[: 3 * shape[0] : 2] = -128
    made[-1] = 0
    return made


def quantized(folder: Path) -> Path:
    """LAYERS as QDQ int8, each with its own scales; the last channel of each has a bias beyond all bounds."""
    rng, nodes, tensors = np.random.default_rng(8), [], []

    def constant(name: str, value: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(value, name))
        return name

    scale, x, code = 0.02, "image", 0
    for i, (shape, attrs) in enumerate([((), {}), *LAYERS]):
        zero = constant(f"z{i}", np.int8([-128, 5, 0][i % 3]))
        if i:
            each = (0.6 / np.sqrt(np.prod(shape[1:])) / 74 * rng.uniform(0.5, 1.5, shape[0])).astype(np.float32)
            w, ws, wz = constant(f"w{i}", weights_of(shape, rng)), constant(f"ws{i}", each), f"wz{i}"
            constant(wz, np.zeros(shape[0], np.int8))
            bias = rng.integers(-2000, 2000, shape[0]).astype(np.int32)
            bias[-1] = 1 << 29
            bs = constant(f"bs{i}", (each * np.float32(scale)).astype(np.float32))
            constant(f"bz{i}", np.zeros(shape[0], np.int32))
            nodes += [
                helper.make_node("DequantizeLinear", [w, ws, wz], [f"wf{i}"], f"dw{i}", axis=0),
                helper.make_node(
                    "DequantizeLinear", [constant(f"b{i}", bias), bs, f"bz{i}"], [f"bf{i}"], f"db{i}", axis=0
                ),
                helper.make_node("Conv", [x, f"wf{i}", f"bf{i}"], [f"c{i}"], f"conv{i}", **attrs),
            ]
            x = f"c{i}"
        scale = float(np.float32(0.02 + 0.001 * i))
        s = constant(f"s{i}", np.float32(scale))
        nodes += [
            helper.make_node("QuantizeLinear", [x, s, zero], [f"q{i}"], f"quantize{i}"),
            helper.make_node("DequantizeLinear", [f"q{i}", s, zero], [f"x{i}"], f"dequantize{i}"),
        ]
        x, code = f"x{i}", i
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, SIZE)
    out = helper.make_tensor_value_info(f"x{code}", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "dsp", [image], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "dsp.onnx")
    return folder / "dsp.onnx"


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m33"])
def test_the_laptops_bits(core: str, tmp_path: Path) -> None:
    rng, model = np.random.default_rng(9), quantized(tmp_path)
    inputs = [{"image": (rng.standard_normal(SIZE) * size).astype(np.float32)} for size in (0.3, 1, 4)]
    path = tmp_path / "dsp.elf"
    edgert.compile(model, path, target=core, emit="elf")
    with open_simulated(str(path), f"sim://{core}") as device:
        kernels = [step["kernel"] for step in device.manifest["steps"]]
    assert sum("_dsp_" in kernel for kernel in kernels) == len(LAYERS), kernels
    outputs, _ = on_device(path, f"sim://{core}", inputs)
    for got, want in zip(outputs, on_laptop(model, tmp_path, inputs), strict=True):
        assert len(np.unique(want)) > 5
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("run", [1, 2, 3, 4, 9, 14])
def test_packed_weights_hold_two_channels_a_number(run: int) -> None:
    rng = np.random.default_rng(run)
    weights = rng.integers(-128, 128, (4, 3, run)).astype(np.int8)
    weights[:2, 0, 0] = -128
    tail = Tail(np.array([5, -6, 7, -8], np.int32), np.float32([0.5, 0.25, 2, 3]), 0)
    x = rng.integers(-128, 128, (3, run)).astype(np.int64)
    numbers = [np.where([k is None for k in side], 0, x[:, [k or 0 for k in side]])
               for side in zip(*pairs_of(run), strict=True)]  # fmt: skip
    for row, record in enumerate(pack(weights, tail)):
        pairs = record[4:].view(np.int16).reshape(-1, 2)[: numbers[0].size].astype(np.int64)
        both = (numbers[0].reshape(-1) * pairs[:, 0] + numbers[1].reshape(-1) * pairs[:, 1]).sum()
        low = (numbers[0].reshape(-1) * (pairs[:, 0] & 255) + numbers[1].reshape(-1) * (pairs[:, 1] & 255)).sum()
        sums = (weights[2 * row : 2 * row + 2].astype(np.int64) * x).sum((1, 2))
        assert low - 128 * x.sum() == sums[0] and both - low == 256 * sums[1]
        assert record[0] == 256 * tail.bias[2 * row + 1] and record[1] == tail.bias[2 * row]
        assert list(record[2:4].view(np.float32)) == [tail.multiplier[2 * row], tail.multiplier[2 * row + 1] / 256]
