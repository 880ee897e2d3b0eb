"""Mixing versions of a model section by section."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quant.splice import FLOAT, Splice
from tests.quant.networks import convolutions, images, model, node, run


def quantized(proto: onnx.ModelProto, step: float) -> onnx.ModelProto:
    """The tests' own quantization: every Conv and Gemm takes its input through uint8 of this step."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    nodes = list(made.graph.node)
    del made.graph.node[:]
    for entry in nodes:
        if entry.op_type in ("Conv", "Gemm"):
            x = entry.input[0]
            made.graph.node.append(node("QuantizeLinear", [x, "step", "zero"], f"{x}_q"))
            made.graph.node.append(node("DequantizeLinear", [f"{x}_q", "step", "zero"], f"{x}_dq"))
            entry.input[0] = f"{x}_dq"
        made.graph.node.append(entry)
    made.graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), "step"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), "zero"))
    return made


def test_all_of_one_version_is_that_version() -> None:
    proto = convolutions()
    versions = {"fine": quantized(proto, 0.05), "coarse": quantized(proto, 0.5)}
    splice, samples = Splice(proto, versions), images(2)
    every = [section.tensor for section in splice.sections]
    np.testing.assert_array_equal(run(splice.mix({}), samples), run(proto, samples))
    for name, version in versions.items():
        mixed = splice.mix(dict.fromkeys(every, name))
        onnx.checker.check_model(mixed, full_check=True)
        np.testing.assert_array_equal(run(mixed, samples), run(version, samples))
        assert len(mixed.graph.node) == len(version.graph.node)


def test_one_section_alone_and_two_versions_at_once() -> None:
    proto = convolutions()
    splice = Splice(proto, {"fine": quantized(proto, 0.05), "coarse": quantized(proto, 0.5)})
    mixed = splice.mix({"c2": "fine", "y": "coarse"})
    onnx.checker.check_model(mixed, full_check=True)
    ops = [entry.op_type for entry in mixed.graph.node]
    assert ops.count("QuantizeLinear") == 2
    steps = {t.name: float(numpy_helper.to_array(t)) for t in mixed.graph.initializer if t.name.endswith("step")}
    assert sorted(steps.values()) == pytest.approx([0.05, 0.5])
    assert np.isfinite(run(mixed, images(1))).all()


def test_values_inside_a_version_and_nodes_with_two_outputs() -> None:
    """A version that names things its own way inside, around a node of which two sections take one output each."""
    shape = (4, 6)
    weights = {"w": np.eye(6) * 2}

    def split(x: str) -> onnx.NodeProto:
        return onnx.helper.make_node("Split", [x], ["a", "b"], "split", axis=0, num_outputs=2)

    tail = node("Concat", ["m", "b"], "y", axis=0)
    proto = model([split("x"), node("MatMul", ["a", "w"], "m"), tail], weights, shape)
    half = [node("Mul", ["x", "half"], "x_half"), split("x_half")]
    inner = [node("MatMul", ["a", "w"], "inner"), node("Mul", ["inner", "half"], "m")]
    other = model([*half, *inner, tail], {**weights, "half": np.array(0.5)}, shape)
    splice, feeds = Splice(proto, {"other": other}), images(1, shape=shape)
    x = feeds[0]["x"]
    for a in (FLOAT, "other"):
        for b in (FLOAT, "other"):
            for m in (FLOAT, "other"):
                got = run(splice.mix({"a": a, "b": b, "m": m}), feeds)[0]
                factors = [1 if v == FLOAT else 0.5 for v in (a, b, m)]
                np.testing.assert_array_equal(got[:2], x[:2] * 2 * factors[0] * factors[2])
                np.testing.assert_array_equal(got[2:], x[2:] * factors[1])


def test_constants_of_one_name_and_other_values() -> None:
    proto = model([node("MatMul", ["x", "w"], "m"), node("MatMul", ["m", "w"], "y")], {"w": np.eye(3)}, (2, 3))
    other = model([node("MatMul", ["x", "w"], "m"), node("MatMul", ["m", "w"], "y")], {"w": np.eye(3) * 3}, (2, 3))
    splice, feeds = Splice(proto, {"other": other}), images(1, shape=(2, 3))
    np.testing.assert_array_equal(run(splice.mix({"m": "other"}), feeds)[0], feeds[0]["x"] * 3)
