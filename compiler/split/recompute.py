"""Computes again, beside the queries, what keys and values are made from: it then need not be kept until they are.

A layer's input, normalized and quantized, feeds all three. Where attention runs in bands of queries, each band does
that to its own rows once more, which is cheap, and the whole is gone once keys and values are there.
"""

from __future__ import annotations

import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.fusion import kind_of
from compiler.passes.edit import EDGERT, Edit

ATTENTIONS = ("IntegerAttention", "Attention")
PRODUCTS = ("Gemm", "GemmInteger")
NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
LONGEST = 8  # operators computed again


def recompute(edit: Edit) -> int:
    """For each attention; returns for how many."""
    return sum(_again(edit, node) for node in edit.nodes(*ATTENTIONS, domain=EDGERT))


def _again(edit: Edit, attention: ir.Node) -> bool:
    product = attention.inputs[0].producer() if attention.inputs[0] is not None else None
    while product is not None and kind_of(product, edit.facts) in ("view", "elementwise"):
        product = product.inputs[0].producer() if product.inputs[0] is not None else None
    if product is None or product.domain != EDGERT or product.op_type not in PRODUCTS or product.inputs[0] is None:
        return False
    chain: list[ir.Node] = []
    before, value = _ancestors(attention), product.inputs[0]
    while all(use.node in before for use in value.uses()):  # else it is kept for something later anyway
        node = value.producer()
        if node is None or len(chain) == LONGEST or node.inputs[0] is None or value.is_graph_output():
            return False
        others = [v for v in node.inputs[1:] if v is not None and v.name not in edit.facts.constants]
        if others or kind_of(node, edit.facts) not in ("view", "elementwise") and node.op_type not in NORMALIZATIONS:
            return False
        chain.append(node)
        value = node.inputs[0]
    if not any(len(node.outputs[0].uses()) > 1 for node in chain):
        return False
    copied: ir.Value = value
    for node in reversed(chain):
        attrs = {name: attr.value for name, attr in node.attributes.items()}
        version, stem = op_version(node, edit.facts), str(node.outputs[0].name)
        inputs = [copied, *node.inputs[1:]]
        copied = edit.insert(product, node.op_type, inputs, attrs, node.domain, stem=stem, version=version)
    product.replace_input_with(0, copied)
    return True


def _ancestors(node: ir.Node) -> set[ir.Node]:
    """The node and all that it depends on."""
    found, todo = {node}, [node]
    while todo:
        for value in todo.pop().inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and maker not in found:
                found.add(maker)
                todo.append(maker)
    return found
