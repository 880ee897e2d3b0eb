"""ONNX's own shape inference of one node: what to go on with after a node the compiler lacks."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from targets.kernels.tensor import Index

from .facts import Facts, ValueFact
from .nodes import op_domain, op_version
from .types import dtype_name, onnx_dtype

MOST_DATA = 4096  # elements of a constant input that shape inference may look at


def onnx_facts(node: ir.Node, facts: Facts) -> list[ValueFact | None]:
    """Facts about the node's outputs from ONNX's shape inference; None where it leaves a dimension open."""
    nothing: list[ValueFact | None] = [None] * len(node.outputs)
    domain, version = op_domain(node), op_version(node, facts)
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        name = value.name if value is not None else None
        if not name:
            continue
        if name not in facts.values:
            return nothing
        types[name] = type_proto(facts, name)
        if name in facts.constants and facts.constants.tensor(name).size <= MOST_DATA:
            data[name] = onnx.numpy_helper.from_array(np.asarray(facts.constants[name]), name)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
        opsets = [onnx.helper.make_opsetid(domain, version)]
        found = shape_inference.infer_node_outputs(
            schema, ir.serde.serialize_node(node), types, data, opset_imports=opsets
        )
    except Exception:  # no schema, or a node that ONNX finds malformed: then nothing is known
        return nothing
    return [_fact(found[v.name], facts) if v.name in found else None for v in node.outputs]


def _fact(proto: onnx.TypeProto, facts: Facts) -> ValueFact | None:
    if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dtype = dtype_name(ir.DataType(proto.tensor_type.elem_type))
    dims: list[Index] = []
    for dim in proto.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        elif dim.dim_param in facts.vars:
            dims.append(facts.vars[dim.dim_param])
        else:
            return None
    return ValueFact(tuple(dims), dtype) if dtype else None


def declared_fact(value: ir.Value, facts: Facts) -> ValueFact | None:
    """What the model itself says about a value; None unless all of it is known."""
    dtype = dtype_name(value.dtype) if isinstance(value.type, ir.TensorType) else None
    if dtype is None or value.shape is None:
        return None
    dims: list[Index] = []
    for dim in value.shape:
        if isinstance(dim, int):
            dims.append(dim)
        elif str(dim.value) in facts.vars:
            dims.append(facts.vars[str(dim.value)])
        else:
            return None
    return ValueFact(tuple(dims), dtype)


def type_proto(facts: Facts, name: str | None) -> onnx.TypeProto:
    """A value's type as ONNX's own tools want it; an empty one where it is not known."""
    fact = facts.values.get(name or "")
    if fact is None:
        return onnx.TypeProto()
    dims = [d if isinstance(d, int) else str(d) for d in fact.shape]
    return onnx.helper.make_tensor_type_proto(int(onnx_dtype(fact.dtype)), dims)
