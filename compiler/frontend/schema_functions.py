"""The functions by which ONNX itself defines many operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_ir as ir

from .facts import Facts
from .nodes import op_domain, op_version
from .onnx_shapes import type_proto


def _newest(versions: Iterable[int], version: int) -> list[int]:
    """The versions of a function body in order of preference: the newest not above the model's, then the nearest above.

    A body written for a later opset still defines the same operator: get_schema gave the definition in force.
    """
    return sorted(versions, key=lambda v: (v > version, abs(v - version)))


def schema_function(node: ir.Node, facts: Facts) -> ir.Function | None:
    """The body by which ONNX itself defines the operator, for this node's types and attributes; None without one."""
    domain, version = op_domain(node), op_version(node, facts)
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    proto = onnx.FunctionProto()
    for opset in _newest(schema.function_opset_versions, version):
        proto.ParseFromString(_body(schema.get_function_with_opset_version(opset)))
        return _function(proto, schema)
    for opset in _newest(schema.context_dependent_function_opset_versions, version):
        body = schema.get_context_dependent_function_with_opset_version(
            opset, ir.serde.serialize_node(node).SerializeToString(), _input_types(node, facts)
        )
        if body:
            proto.ParseFromString(body)
            return _function(proto, schema)
    return None


def _function(proto: onnx.FunctionProto, schema: Any) -> ir.Function | None:
    """The body as a graph, with the operator's default attributes."""
    made = {name for node in proto.node for name in node.output} | set(proto.input)
    while proto.output and proto.output[-1] not in made:  # a body made for a node without its optional last outputs
        del proto.output[-1]
    if not made.issuperset(proto.output):
        return None
    given = {attr.name for attr in proto.attribute_proto}
    for name, attr in schema.attributes.items():
        if name not in given and attr.default_value.name:
            proto.attribute_proto.append(onnx.AttributeProto.FromString(attr.default_value.SerializeToString()))
    kept = [name for name in proto.attribute if name not in {attr.name for attr in proto.attribute_proto}]
    del proto.attribute[:]
    proto.attribute.extend(kept)
    return ir.serde.deserialize_function(proto)


def _body(function: bytes | onnx.FunctionProto) -> bytes:
    return function if isinstance(function, bytes) else function.SerializeToString()


def _input_types(node: ir.Node, facts: Facts) -> list[bytes]:
    return [type_proto(facts, v.name if v is not None else None).SerializeToString() for v in node.inputs]
