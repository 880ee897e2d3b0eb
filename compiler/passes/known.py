"""Values that depend on constants alone, computed when they are needed: above all, weights behind DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from compiler.frontend import fold
from compiler.frontend.nodes import op_domain, op_version
from compiler.frontend.types import onnx_dtype
from targets.target import Target

from .edit import Edit

# Reading these needs only the rows asked for; the whole table as floats would be many times its size.
LOOKUPS = ("Gather", "GatherND", "GatherElements")


def is_known(edit: Edit, value: ir.Value | None) -> bool:
    """Whether constants alone make `value`, through operators that `evaluation` runs."""
    if value is None:
        return False
    if value.name in edit.facts.constants:
        return True
    node = value.producer()
    if node is None or len(node.outputs) != 1 or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type not in OWN and not fold.foldable(node):
        return False
    inputs = [v for v in node.inputs if v is not None]
    if not inputs or not all(isinstance(d, int) for d in edit.shape(value)):
        return False
    return all(is_known(edit, v) for v in inputs)


def evaluation(edit: Edit, value: ir.Value) -> Callable[[], np.ndarray]:
    """Reads or computes a value that `is_known`. It holds on to what it needs, so the nodes may go.

    Raises RuntimeError, when called, where ONNX's own definition does not run.
    """
    if value.name in edit.facts.constants:
        tensor = edit.facts.constants.tensor(str(value.name))
        return tensor.numpy
    node = value.producer()
    assert node is not None
    sources = [None if v is None else evaluation(edit, v) for v in node.inputs]
    twin = _twin(node)
    own = OWN.get(node.op_type)
    domain, version, kind = op_domain(node), op_version(node, edit.facts), edit.dtype(value)

    def make() -> np.ndarray:
        inputs = [None if source is None else source() for source in sources]
        if own is not None:
            return own(twin, inputs, kind)
        named = {str(v.name): a for v, a in zip(twin.inputs, inputs, strict=True) if v is not None and a is not None}
        made = fold.fold(twin, named, domain, version)
        if made is None:
            raise RuntimeError(f"{twin.op_type} {twin.name}: its constant inputs cannot be evaluated")
        return made[0]

    return make


def _twin(node: ir.Node) -> ir.Node:
    """The same node on values of its own."""
    inputs = [None if v is None else ir.Value(name=f"{v.name}") for v in node.inputs]
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    outputs = [ir.Value(name="result")]
    return ir.node(node.op_type, inputs, attributes, outputs=outputs, name=node.name, version=node.version)


def _attr(node: ir.Node, name: str, default: Any = None) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def _dequantize(node: ir.Node, inputs: list[np.ndarray | None], kind: str) -> np.ndarray:
    q, scale, zero = (*inputs, None)[:3]
    assert q is not None and scale is not None
    axis, block = int(_attr(node, "axis", 1)), int(_attr(node, "block_size", 0))

    def spread(t: np.ndarray) -> np.ndarray:
        if t.size == 1 and t.ndim <= 1:
            return t.reshape(())
        if block:
            return np.repeat(t, block, axis).take(range(q.shape[axis]), axis)
        shape = [1] * q.ndim
        shape[axis] = -1
        return t.reshape(shape)

    # the differences fit float32 exactly up to 16 bits; int32 comes without a zero point other than 0
    codes = q.astype(np.float32)
    if zero is not None:
        codes = codes - spread(zero.astype(np.float32))
    made = codes * spread(scale.astype(np.float32))
    return made.astype(onnx_dtype(kind).numpy())


def _cast(node: ir.Node, inputs: list[np.ndarray | None], kind: str) -> np.ndarray:
    assert inputs[0] is not None
    return inputs[0].astype(onnx_dtype(kind).numpy())


def _transpose(node: ir.Node, inputs: list[np.ndarray | None], kind: str) -> np.ndarray:
    assert inputs[0] is not None
    return np.transpose(inputs[0], _attr(node, "perm"))


# What ONNX's reference refuses (numbers of 4 bits), or numpy does at once.
OWN: dict[str, Callable[[ir.Node, list[np.ndarray | None], str], np.ndarray]] = {
    "DequantizeLinear": _dequantize,
    "Cast": _cast,
    "Transpose": _transpose,
}


def lazily(edit: Edit, value: ir.Value, stem: str | None = None) -> ir.Value:
    """A constant that is computed each time it is read."""
    shape = tuple(int(d) for d in edit.shape(value))
    dtype = onnx_dtype(edit.dtype(value)).numpy()
    return edit.constant(stem or str(value.name), evaluation(edit, value), (shape, dtype))


def fold_weights(edit: Edit, target: Target) -> bool:
    """Weights that are still dequantized as the model runs become constants, dequantized when they are packed.

    For whatever no kernel with weights of few bits takes: convolutions, recurrent layers, odd block sizes.
    """
    changed = False
    for node in edit.nodes():
        value = node.outputs[0]
        if len(node.outputs) != 1 or value.is_graph_output() or not is_known(edit, value) or not _dequantized(value):
            continue
        if any(not (use.node.op_type in LOOKUPS and use.idx == 0) and not _is_inner(edit, use.node)
               for use in value.uses()):  # fmt: skip
            edit.replace(value, lazily(edit, value))
            changed = True
    return changed


def _is_inner(edit: Edit, node: ir.Node) -> bool:
    """Whether the node's own result is known: then that is folded, where it ends."""
    return len(node.outputs) == 1 and is_known(edit, node.outputs[0])


def _dequantized(value: ir.Value | None) -> bool:
    """Whether there is a DequantizeLinear behind a known value."""
    node = value.producer() if value is not None else None
    return node is not None and (node.op_type == "DequantizeLinear" or any(_dequantized(v) for v in node.inputs))
