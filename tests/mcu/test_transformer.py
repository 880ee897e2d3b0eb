"""A small vision transformer in firmware: int8 to the laptop's bits; 4-bit weights, whose sums are floats, nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert.errors import EdgertError
from edgert.placing import Placing
from quant.quantize import quantize
from tests.mcu import transformer
from tests.mcu.test_simulators import need_qemu, on_device, on_laptop


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer.transformer(tmp_path_factory.mktemp("transformer"))


@pytest.fixture(scope="module")
def int8(model: Path) -> Path:
    quantize(model, model.with_name("int8.onnx"), "int8", transformer.samples(8, 1))
    return model.with_name("int8.onnx")


@pytest.mark.parametrize(
    ("core", "count"),
    [("cortex-m4", 3), ("cortex-m0plus", 1), pytest.param("cortex-m55", 3, marks=pytest.mark.apt)],
)
def test_int8(core: str, count: int, model: Path, int8: Path, tmp_path: Path) -> None:
    if core == "cortex-m55":
        need_qemu(core)
    inputs = transformer.samples(count)
    where = Placing(stack=4096)  # floats in software take 2.1 KB
    edgert.compile(int8, tmp_path / "device.elf", target=core, emit="elf", golden=False, placing=where)
    outputs, _ = on_device(tmp_path / "device.elf", f"sim://{core}", inputs)
    session = onnxruntime.InferenceSession(model)
    for got, want, feeds in zip(outputs, on_laptop(int8, tmp_path, inputs), inputs, strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
        assert np.abs(got - session.run(None, feeds)[0]).max() < 0.1  # of numbers up to 3


@pytest.mark.parametrize("stack", [512, 1536])
def test_too_little_stack(stack: int, int8: Path, tmp_path: Path) -> None:
    where = Placing(stack=stack)
    edgert.compile(int8, tmp_path / "m4.elf", target="cortex-m4", emit="elf", golden=False, placing=where)
    with pytest.raises(EdgertError, match=rf"more than the {stack} bytes of stack"):
        on_device(tmp_path / "m4.elf", "sim://cortex-m4", transformer.samples(1))


@pytest.mark.parametrize("scheme", ["int4", "int4x8"])
def test_4_bit_weights(scheme: str, model: Path, tmp_path: Path) -> None:
    quantize(model, tmp_path / "int4.onnx", scheme, transformer.samples(8, 1))
    inputs = transformer.samples(3)
    report = edgert.compile(tmp_path / "int4.onnx", tmp_path / "m4.elf", target="cortex-m4", emit="elf", golden=False)
    matrices = transformer.LAYERS * 8 * transformer.WIDTH**2
    floats = sum(numpy_helper.to_array(w).nbytes for w in onnx.load(model).graph.initializer)
    # half a byte and an eighth of it (a scale for 32), in place of four
    assert report.manifest["weights_bytes"] < floats - 3.3 * matrices
    outputs, _ = on_device(tmp_path / "m4.elf", "sim://cortex-m4", inputs)
    for got, want in zip(outputs, on_laptop(tmp_path / "int4.onnx", tmp_path, inputs), strict=True):
        # sums of 64 products in another order, some ten layers of them: 2^-24 * 64 * 10 of numbers up to 3
        assert np.abs(got - want).max() < 2e-4


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_4_bit_weights_and_8_bit_activations_are_summed_as_on_the_laptop(core: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    weights = numpy_helper.from_array(rng.standard_normal((96, 13)).astype(np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [5, 96]), ("y", [5, 13]))
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "product", [x], [y], [weights]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "p.onnx")
    inputs = [{"x": rng.standard_normal((5, 96)).astype(np.float32)} for _ in range(2)]
    quantize(tmp_path / "p.onnx", tmp_path / "q.onnx", "int4x8", inputs)
    edgert.compile(tmp_path / "q.onnx", tmp_path / "device.elf", target=core, emit="elf", golden=False)
    outputs, _ = on_device(tmp_path / "device.elf", f"sim://{core}", inputs)
    for got, want in zip(outputs, on_laptop(tmp_path / "q.onnx", tmp_path, inputs), strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
