"""Small ONNX models for the command line's tests, made here."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def small(path: Path) -> Path:
    """y = relu(x + w), x float32 [2, 3]."""
    weights = numpy_helper.from_array(np.arange(3, dtype=np.float32) - 1, "w")
    return save(path, [helper.make_node("Add", ["x", "w"], ["a"], "add"), relu("a", "y")], [weights])


def relu(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], f"relu_{target}")


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[TensorProto] | None = None,
    shape: tuple[int | str, ...] = (2, 3),
) -> Path:
    """A model with input x and output y, float32 of `shape`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights or [],
    )
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())
    return path


def external(path: Path, location: str) -> Path:
    """Like `small`, with its weights in another file."""
    small(path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path
