"""Small changes to the graph that inference makes: constants become initializers, unread nodes go."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .mapped import renamed
from .nodes import wanted
from .types import onnx_dtype


def literal(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor a Constant node holds, in whichever attribute; None for strings and sparse tensors."""
    for name, attr in node.attributes.items():
        if attr.is_ref():
            return None
        if name == "value":
            return attr.value
        if name in ("value_int", "value_ints"):
            return ir.tensor(np.array(attr.value, np.int64))
        if name in ("value_float", "value_floats"):
            return ir.tensor(np.array(attr.value, np.float32))
    return None


def make_constant(output: ir.Value, data: np.ndarray | ir.TensorProtocol) -> ir.TensorProtocol:
    """Replaces a node's output by an initializer of the same name that holds `data`; the node itself stays."""
    node = output.producer()
    assert node is not None and node.graph is not None
    name = output.name or ""
    if isinstance(data, np.ndarray | np.generic):
        tensor: ir.TensorProtocol = ir.Tensor(np.asarray(data), onnx_dtype(str(data.dtype)), name=name)
    else:
        tensor = data
    if tensor.name != name:
        tensor = renamed(tensor, name)
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    node.graph.initializers[name] = value
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    return tensor


def remove_unused(graph: ir.Graph) -> list[ir.Node]:
    """Takes out the nodes whose outputs nobody reads, and initializers likewise. Returns the nodes."""
    gone = []
    for node in reversed(graph):
        if not any(wanted(v) for v in node.outputs):
            graph.remove(node, safe=True)
            gone.append(node)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
    return gone
