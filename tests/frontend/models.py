"""Small ONNX models for the front end's tests, made here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]
F = TensorProto.FLOAT


def node(op: str, inputs: str, outputs: str, domain: str = "", **attrs: object) -> onnx.NodeProto:
    """A node whose inputs and outputs are written with spaces between, `_` for an omitted one."""
    names = [[n if n != "_" else "" for n in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, name=f"n_{outputs.split()[0]}", domain=domain, **attrs)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims] | None = None,
    outputs: str = "y",
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    types: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of float32 values (others by `types`); outputs carry no shape."""
    kinds = types or {}
    given = {"x": (2, 3)} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, kinds.get(n, F), d) for n, d in given.items()],
        [helper.make_tensor_value_info(n, kinds.get(n, F), None) for n in outputs.split()],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def save(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def external(tensor: TensorProto, **entries: object) -> None:
    """Turns a tensor into one whose data lies in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
