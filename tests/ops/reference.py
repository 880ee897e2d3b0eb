"""Compares one operator, compiled to an artifact and run, with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import edgert

# Sums of a few hundred float32 products, added in another order, differ by at most a few hundred roundings of 6e-8
TOLERANCE = 2e-5


def model_of(
    op: str, inputs: Sequence[np.ndarray | None], outputs: int, constant: Sequence[int], opset: int, **attrs: Any
) -> onnx.ModelProto:
    """A model of one node. inputs: arrays, None where omitted; those at positions `constant` become initializers."""
    names = ["" if v is None else f"i{k}" for k, v in enumerate(inputs)]
    results = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, **attrs)
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, (n, v) in enumerate(zip(names, inputs, strict=True))
        if v is not None and k not in constant
    ]
    kept = [numpy_helper.from_array(v, names[k]) for k, v in enumerate(inputs) if v is not None and k in constant]
    made = [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results]
    graph = helper.make_graph([node], op, given, made, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def answers(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """What the model gives, compiled and run by this project."""
    source, artifact = folder / "m.onnx", folder / "m.edge"
    source.write_bytes(model.SerializeToString())
    edgert.compile(source, artifact, golden=False)
    with edgert.load(artifact, threads=1) as loaded:
        return loaded.run(feeds)


def check(
    folder: Path, op: str, inputs: Sequence[np.ndarray | None], outputs: int = 1, constant: Sequence[int] = (),
    opset: int = 17, tolerance: float = TOLERANCE, **attrs: Any,
) -> None:  # fmt: skip
    """Compares every output: type and shape exactly, floats within `tolerance` of the largest, integers exactly."""
    model = model_of(op, inputs, outputs, constant, opset, **attrs)
    feeds = {f"i{k}": v for k, v in enumerate(inputs) if v is not None and k not in constant}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)
    got = answers(model, feeds, folder)
    for k, expected in enumerate(wanted):
        actual = got[f"o{k}"]
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        if expected.dtype.kind == "f":
            largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=1.0))
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)
        else:
            np.testing.assert_array_equal(actual, expected)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Reproducible float32 noise."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
