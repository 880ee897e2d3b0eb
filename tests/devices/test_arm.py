"""64-bit and 32-bit Arm and 64-bit RISC-V under QEMU's user mode: integers as numpy's, floats as ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert.artifact import Artifact as ArtifactFile
from edgert.errors import EdgertError, UsageError
from edgert.interface.bench import bench
from edgert.interface.emulated import EmulatedModel
from edgert.interface.run import run
from edgert.interface.verify import verify
from edgert.native.runner import runner
from targets import all_targets
from targets.devices.qemu_user import QemuUser

DEVICE = "qemu-user://aarch64"
# one of those that compute alike
UNLIKE = {
    (target.features, target.half): (name, target)
    for name, target in sorted(all_targets().items())
    if target.family == "cpu" and target.triple.startswith(("aarch64", "armv7", "riscv64"))
}
DEVICES = {name: f"qemu-user://{target.triple.split('-')[0]}" for name, target in UNLIKE.values()}
pytestmark = [
    pytest.mark.apt,
    pytest.mark.skipif(bool(QemuUser.of(DEVICE).missing()), reason="no qemu-aarch64 (apt: qemu-user-static)"),
]
PRODUCTS = {
    "u8_wide": ("uint8", 37, 70), "s8_wide": ("int8", 37, 70), "u8_column": ("uint8", 64, 1),
    "u8_deep": ("uint8", 2047, 13), "s8_deep": ("int8", 2047, 13), "s8_many": ("int8", 48, 100),
}  # fmt: skip
# 360 products of 1 and 1/20 make about 0.95, 523 of 1 and 1/32 less; 64 additions in float16 err by its unit, 4.9e-4,
# times sqrt(64 / 2 / 3), and this is five times that
HALVES = 5 * 0.95 * 2.0**-11 * (64 / 6) ** 0.5
Artifact = Callable[[str], Path]


def extremes(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Bytes over the whole range, its ends more often than chance: there 16-bit sums would overflow."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    ends = rng.choice([least, most], shape)
    return np.where(rng.random(shape) < 0.3, ends, rng.integers(least, most + 1, shape)).astype(dtype)


def network(path: Path) -> dict[str, np.ndarray]:
    """Writes a model of byte products, and of floats; the weights of the products by name."""
    rng = np.random.default_rng(41)
    weights, nodes, inputs, outputs = {}, [], [], []
    for name, (dtype, depth, cols) in PRODUCTS.items():
        weights[name] = extremes(rng, "int8", depth, cols)
        kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT8
        inputs.append(helper.make_tensor_value_info(name, kind, [11, depth]))
        outputs.append(helper.make_tensor_value_info(f"{name}.sums", TensorProto.INT32, [11, cols]))
        nodes.append(helper.make_node("MatMulInteger", [name, f"{name}.w"], [f"{name}.sums"], name))
    floats = {"conv.w": rng.standard_normal((12, 3, 3, 3)), "dense.w": rng.standard_normal((12, 10))}
    floats["deep.w"] = rng.standard_normal((523, 107)) / 8
    nodes += [
        helper.make_node("Conv", ["image", "conv.w"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Sigmoid", ["conv"], ["gate"]),
        helper.make_node("Mul", ["conv", "gate"], ["swish"]),
        helper.make_node("GlobalAveragePool", ["swish"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense.w"], ["logits"]),
        helper.make_node("MatMul", ["rows", "deep.w"], ["deep"]),
        helper.make_node("Softmax", ["logits"], ["classes"]),
    ]
    inputs.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 17, 17]))
    outputs.append(helper.make_tensor_value_info("classes", TensorProto.FLOAT, [1, 10]))
    for name, kind in (("u8", TensorProto.UINT8), ("s8", TensorProto.INT8)):
        nodes.append(helper.make_node("ConvInteger", [f"{name}_image", "tap.w"], [f"{name}_taps"], pads=[0, 1, 2, 1]))
        inputs.append(helper.make_tensor_value_info(f"{name}_image", kind, [1, 20, 9, 7]))
        outputs.append(helper.make_tensor_value_info(f"{name}_taps", TensorProto.INT32, [1, 26, 9, 7]))
    weights["tap.w"] = extremes(rng, "int8", 26, 20, 3, 3)
    nodes.append(helper.make_node("Conv", ["float_image", "wide.w"], ["wide"], pads=[1, 0, 1, 1], strides=[1, 2]))
    inputs.append(helper.make_tensor_value_info("float_image", TensorProto.FLOAT, [1, 40, 9, 7]))
    outputs.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, [1, 30, 9, 3]))
    floats["wide.w"] = rng.standard_normal((30, 40, 3, 3)) / 5
    inputs.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, [13, 523]))
    outputs.append(helper.make_tensor_value_info("deep", TensorProto.FLOAT, [13, 107]))
    constants = [numpy_helper.from_array(weights.pop("tap.w"), "tap.w")]
    constants += [numpy_helper.from_array(w, f"{name}.w") for name, w in weights.items()]
    constants += [numpy_helper.from_array((w / 4).astype(np.float32), name) for name, w in floats.items()]
    graph = helper.make_graph(nodes, "arm", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("arm") / "arm.onnx"
    return path, network(path)


@pytest.fixture(scope="module")
def artifact(weights: tuple[Path, dict[str, np.ndarray]]) -> Artifact:
    """The artifact for a target."""

    @cache
    def made(target: str) -> Path:
        path = weights[0].with_name(f"{target}.edge")
        edgert.compile(weights[0], path, target=target)
        return path

    return made


def draw(seed: int) -> dict[str, np.ndarray]:
    """Inputs of the model."""
    rng = np.random.default_rng(seed)
    feeds = {name: extremes(rng, dtype, 11, depth) for name, (dtype, depth, _) in PRODUCTS.items()}
    feeds |= {f"{name}_image": extremes(rng, kind, 1, 20, 9, 7) for name, kind in (("u8", "uint8"), ("s8", "int8"))}
    floats = {"image": (1, 3, 17, 17), "float_image": (1, 40, 9, 7), "rows": (13, 523)}
    return feeds | {name: rng.standard_normal(shape).astype(np.float32) for name, shape in floats.items()}


@pytest.mark.parametrize("target", DEVICES)
def test_answers(target: str, artifact: Artifact, weights: tuple[Path, dict[str, np.ndarray]]) -> None:
    feeds = draw(43)
    with EmulatedModel(str(artifact(target)), DEVICES[target]) as model:
        found = model.run(feeds)
        steps = model.profile(feeds)
    for name, w in weights[1].items():
        np.testing.assert_array_equal(found[f"{name}.sums"], feeds[name].astype(np.int64) @ w.astype(np.int64))
    assert len(steps) == len(model.manifest["steps"]) and all(step["ns"] > 0 for step in steps)
    path = weights[0].with_name("host.edge")
    if not path.exists():
        edgert.compile(weights[0], path, golden=False)
    with edgert.load(path, threads=1) as host:
        here = host.run(feeds)
    for name in ("u8_taps", "s8_taps"):
        np.testing.assert_array_equal(found[name], here[name])
    for name in ("classes", "deep", "wide"):
        close = HALVES if name != "classes" and all_targets()[target].half else 1e-4
        np.testing.assert_allclose(found[name], here[name], rtol=0, atol=close)


def test_one_artifact_for_all_64_bit_processors(
    artifact: Artifact, weights: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    fat = artifact("aarch64+dotprod+i8mm")
    feeds = draw(47)
    program = tmp_path / "run"
    program.write_bytes(runner("aarch64"))
    program.chmod(0o755)
    sizes = []
    for cpu, target in (("cortex-a53", "aarch64"), ("cortex-a76", "cortex-a76"), ("max", "cortex-x2")):
        uri = f"{DEVICE}?cpu={cpu}"
        assert f"Code: for {target}\n" in QemuUser.of(uri).run(str(program), [str(fat), "--help"])[1]
        with EmulatedModel(str(fat), uri) as model, EmulatedModel(str(artifact(target)), uri) as alone:
            found, want = model.run(feeds), alone.run(feeds)
            sizes.append(alone.manifest["weights_bytes"])
        for name, array in want.items():
            np.testing.assert_array_equal(found[name], array)
    assert max(sizes) <= ArtifactFile.open(fat).spec.weights_bytes < sum(sizes)  # what is equal is there once


def test_a_processor_without_a_feature_is_refused(artifact: Artifact) -> None:
    assert verify(str(artifact("cortex-a53")), device=f"{DEVICE}?cpu=cortex-a53").passed
    with pytest.raises(EdgertError, match="needs fphp, which this processor lacks"):
        verify(str(artifact("cortex-a76")), device=f"{DEVICE}?cpu=cortex-a53")
    with pytest.raises(EdgertError, match="needs i8mm, which this processor lacks"):
        verify(str(artifact("cortex-x2")), device=f"{DEVICE}?cpu=cortex-a76")


def test_wrong_use(artifact: Artifact) -> None:
    path = str(artifact("aarch64"))
    with pytest.raises(UsageError, match="no such machine; there is qemu-user://aarch64"):
        verify(path, device="qemu-user://vax")
    with pytest.raises(UsageError, match="no processor 'mine'"):
        verify(path, device=f"{DEVICE}?cpu=mine")
    with pytest.raises(UsageError, match="is an emulator"):
        bench(path, device=DEVICE)
    with pytest.raises(EdgertError, match="no --input for u8_wide"):
        run(path, [], device=DEVICE)
    with pytest.raises(EdgertError, match="compiled for aarch64"):
        verify(path)


def test_a_model_is_compiled_for_the_device(weights: tuple[Path, dict[str, np.ndarray]]) -> None:
    images = [f"{kind}image" for kind in ("", "u8_", "s8_", "float_")]
    words = [(name, "zeros") for name in (*PRODUCTS, *images, "rows")]
    found = run(str(weights[0]), words, device="qemu-user://armv7")
    assert {output.name for output in found.outputs} == {
        "classes",
        "deep",
        "wide",
        "u8_taps",
        "s8_taps",
        *(f"{name}.sums" for name in PRODUCTS),
    }
    assert next(output for output in found.outputs if output.name == "u8_wide.sums").max == 0
