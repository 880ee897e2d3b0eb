"""Dimensions known only at run time: compiled once within bounds, compared with ONNX Runtime at several sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert

from .reference import TOLERANCE, normal

Shape = list[int | str]

# operator: (shapes of what is given at run time, constants, attributes, outputs)
FORMS: dict[str, tuple[list[Shape], list[np.ndarray], dict[str, Any], int]] = {
    "Conv": ([["n", 3, 9, 8]], [normal(4, 3, 3, 3), normal(4)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}, 1),
    "ConvTranspose": ([["n", 3, 5]], [normal(3, 2, 3)], {"strides": [2]}, 1),
    "MaxPool": ([["n", 2, 7, 8]], [], {"kernel_shape": [3, 2], "strides": [2, 2]}, 2),
    "GlobalAveragePool": ([["n", 2, 5, 6]], [], {}, 1),
    "InstanceNormalization": ([["n", 3, "m"]], [normal(3), normal(3)], {}, 1),
    "LayerNormalization": ([["n", "m", 20]], [normal(20), normal(20)], {}, 1),
    "LpNormalization": ([["n", "m"]], [], {"axis": 0}, 1),
    "LSTM": ([["m", "n", 5]], [normal(1, 16, 5), normal(1, 16, 4), normal(1, 32)], {"hidden_size": 4}, 3),
    "GRU": ([["m", "n", 5]], [normal(1, 12, 5), normal(1, 12, 4), normal(1, 24)], {"hidden_size": 4}, 2),
    "Attention": ([["n", 2, "m", 8], ["n", 2, "k", 8], ["n", 2, "k", 8]], [], {"is_causal": 1}, 1),
}
BOUNDS = {"n": (1, 4), "m": (1, 9), "k": (1, 12)}
SIZES = [{"n": 1, "m": 1, "k": 1}, {"n": 3, "m": 7, "k": 12}, {"n": 4, "m": 9, "k": 9}]


@pytest.mark.parametrize("op", FORMS)
def test_sizes_within_bounds(op: str, tmp_path: Path) -> None:
    shapes, constants, attrs, outputs = FORMS[op]
    given = [helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, s) for k, s in enumerate(shapes)]
    kept = [numpy_helper.from_array(c, f"c{k}") for k, c in enumerate(constants)]
    results = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, [v.name for v in given] + [c.name for c in kept], results, **attrs)
    types = [TensorProto.INT64 if op == "MaxPool" and k else TensorProto.FLOAT for k in range(outputs)]
    made = [helper.make_tensor_value_info(r, t, None) for r, t in zip(results, types, strict=True)]
    graph = helper.make_graph([node], op, given, made, kept)
    opset = helper.make_opsetid("", 23 if op == "Attention" else 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    source, artifact = tmp_path / "m.onnx", tmp_path / "m.edge"
    source.write_bytes(model.SerializeToString())
    used = {d for s in shapes for d in s if isinstance(d, str)}
    edgert.compile(source, artifact, dims={d: BOUNDS[d] for d in used}, golden=False)
    session = onnxruntime.InferenceSession(source.read_bytes(), providers=["CPUExecutionProvider"])
    with edgert.load(artifact, threads=1) as loaded:
        for sizes in SIZES:
            concrete = [[sizes[d] if isinstance(d, str) else d for d in s] for s in shapes]
            feeds = {f"x{k}": normal(*s, seed=k) for k, s in enumerate(concrete)}
            got = loaded.run(feeds)
            for name, wanted in zip(results, session.run(None, feeds), strict=True):
                assert got[name].shape == wanted.shape
                np.testing.assert_allclose(
                    got[name], wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max()))
                )
