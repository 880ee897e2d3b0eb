"""Operators after a convolution, where the compiler keeps channels last: the same answers as ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from .reference import TOLERANCE, answers, normal

SCALES = np.array([1, 1, 2, 3], np.float32)
ODD = np.array([1, 1, 1.4, 0.6], np.float32)
Node = tuple[str, list[np.ndarray | None], dict[str, Any], int]
AFTER: dict[str, Node] = {
    "resize opset 10": ("Resize", [SCALES], {"mode": "linear"}, 10),
    "resize opset 10 nearest": ("Resize", [SCALES], {"mode": "nearest"}, 10),
    "upsample": ("Upsample", [SCALES], {"mode": "nearest"}, 9),
    "resize": ("Resize", [None, ODD], {"mode": "linear"}, 17),
    "resize nearest": ("Resize", [None, ODD], {"mode": "nearest"}, 17),
    "resize ceil": (
        "Resize", [None, ODD],
        {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"}, 17,
    ),
    "resize corners": (
        "Resize", [None, SCALES], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, 17,
    ),
    "resize cubic": ("Resize", [None, ODD], {"mode": "cubic"}, 17),
    "max pool": ("MaxPool", [], {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]}, 17),
    "max pool dilated": ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 1]}, 17),
    "average pool": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}, 17),
    "average pool padded": (
        "AveragePool", [],
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER", "count_include_pad": 1}, 17,
    ),
    "average pool ceil": ("AveragePool", [], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}, 19),
    "global average": ("GlobalAveragePool", [], {}, 17),
    "global max": ("GlobalMaxPool", [], {}, 17),
    "transposed": ("ConvTranspose", [normal(6, 4, 3, 2), normal(4)], {"strides": [2, 2], "output_padding": [1, 0]}, 17),
    "transposed grouped": ("ConvTranspose", [normal(6, 2, 3, 3)], {"group": 3, "pads": [1, 0, 1, 1]}, 17),
    "depthwise": ("Conv", [normal(6, 1, 3, 3), normal(6)], {"group": 6, "dilations": [2, 1], "pads": [2, 1, 2, 1]}, 17),
    "instance norm": ("InstanceNormalization", [normal(6), normal(6)], {}, 17),
    "lrn": ("LRN", [], {"size": 3}, 17),
    "batch norm": ("BatchNormalization", [*[normal(6)] * 3, np.abs(normal(6)) + np.float32(0.5)], {}, 17),
}  # fmt: skip


@pytest.mark.parametrize("form", AFTER)
def test_after_a_convolution(form: str, tmp_path: Path) -> None:
    op, constants, attrs, opset = AFTER[form]
    kept = [numpy_helper.from_array(normal(6, 3, 3, 3), "w")]
    kept += [numpy_helper.from_array(c, f"c{k}") for k, c in enumerate(constants) if c is not None]
    names = ["" if c is None else f"c{k}" for k, c in enumerate(constants)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node(op, ["b", *names], ["c"], **attrs),
        helper.make_node("Mul", ["c", "c"], ["y"]),
    ]
    x = normal(1, 3, 9, 10)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "chain", given, made, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    got = answers(model, {"x": x}, tmp_path)["y"]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))
