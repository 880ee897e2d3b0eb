"""Half precision in memory, float32 in registers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import edgert
from compiler.codegen.opencl_half import stored_halves
from edgert.artifact import Artifact
from edgert.cli import main
from edgert.opencl.model import OpenClModel
from targets import opencl_generic
from tests.opencl.graphs import feeds, graph


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small values are stored as halves as well."""
    made = replace(opencl_generic.TARGETS["opencl-fp16"], half=17)
    monkeypatch.setitem(opencl_generic.TARGETS, "opencl-fp16", made)


def arena(path: Path) -> int:
    return Artifact.open(path).spec.arena_bytes


@pytest.mark.parametrize("name", ["convolutions", "images", "attention", "recurrent"])
def test_answers_differ_by_roundings_and_memory_halves(name: str, tmp_path: Path) -> None:
    source, half, full = tmp_path / "m.onnx", tmp_path / "half.edge", tmp_path / "full.edge"
    onnx.save(graph(name), source)
    dims = {"length": (1, 40)} if name == "attention" else {}
    edgert.compile(source, half, target="opencl-fp16", dims=dims)
    edgert.compile(source, full, target="opencl", dims=dims)
    session, given = onnxruntime.InferenceSession(source), feeds(half)
    with edgert.load(half) as model:
        assert isinstance(model, OpenClModel)
        got = model.run(given)
        assert model.handovers == (name == "recurrent")
    for port, wanted in zip(session.get_outputs(), session.run(None, given), strict=True):
        found = got[port.name]
        assert found.dtype == wanted.dtype
        # 2^-11 for each of some five roundings, and some more behind an exponential
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-3 * np.ptp(wanted) if found.dtype.kind == "f" else 0)
    if name in ("convolutions", "attention"):
        assert arena(half) <= arena(full) / 2 + 3 * 64  # each buffer is rounded up to a line
    if name == "recurrent":
        assert arena(half) == arena(full)  # what the CPU works on stays float32


def test_what_is_too_large_stays_finite(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.eye(32, dtype=np.float32) * 1e5, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["1"]), helper.make_node("Softmax", ["1"], ["y"], axis=-1)]
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 32])] for n in "xy"]
    made = helper.make_graph(nodes, "large", *ports, [weight])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", target="opencl-fp16")
    x = np.linspace(-1, 0.5, 32, dtype=np.float32)[None]
    x[0, 7] = 0.9
    with edgert.load(tmp_path / "m.edge") as model:
        (y,) = model.run({"x": x}).values()
    np.testing.assert_array_equal(y, np.arange(32)[None] == 7)


def test_what_would_cost_too_much_stays_whole(tmp_path: Path) -> None:
    """A difference of large numbers: their last digits are the answer."""
    rng = np.random.default_rng(4)
    weights = {
        "large": 1000 + rng.standard_normal((32, 32)), "centre": np.eye(32) - 1 / 32,
        "plain": rng.standard_normal((32, 32)) / 6,
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["1"]), helper.make_node("MatMul", ["1", "centre"], ["2"]),
        helper.make_node("MatMul", ["2", "plain"], ["y"]),
    ]  # fmt: skip
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 32])] for n in "xy"]
    constants = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    made = helper.make_graph(nodes, "cancels", *ports, constants)
    source, path = tmp_path / "m.onnx", tmp_path / "m.edge"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), source)
    report = edgert.compile(source, path, target="opencl-fp16")
    halves = report.manifest["halves"]
    assert {"large", "1"} <= {*halves["float32"]} and "plain" not in halves["float32"]
    assert halves["error"] <= 1e-2 < halves["error_all"] and 0 < halves["kept_bytes"] < halves["bytes"]
    whole = sum(4 if name in halves["float32"] else 2 for name in weights) * 32 * 32
    assert report.manifest["weights_bytes"] == whole
    x = rng.random((2, 32)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(source).run(None, {"x": x})
    with edgert.load(path) as model:
        np.testing.assert_allclose(model.run({"x": x})["y"], wanted, rtol=0, atol=1e-2 * np.ptp(wanted))
    told = CliRunner().invoke(main, ["inspect", str(path)]).output
    assert f"float16 large values and weights but {len(halves['float32'])} of {halves['values']}" in told


def test_elements_within_indices_of_elements() -> None:
    text = "  p1[(p2[i] + 1)] = (convert_half((convert_float(p1[p2[i]])) + p3[0]));\n  float v = (half)1.5f;"
    wanted = (
        "  edgert_store_half((((convert_float(vload_half(p2[i], p1))) + p3[0])), (p2[i] + 1), p1);\n"
        "  float v = (float)1.5f;"
    )
    assert stored_halves(text, ["p1"]) == wanted
    assert stored_halves(text, []) == text
    with pytest.raises(AssertionError, match="half precision"):
        stored_halves("  half v = p1[0];", ["p1"])
