"""Computes again, beside the queries, what keys and values are made from: it then need not be kept until they are.

A layer's normalized input feeds all three. Where attention runs in bands of queries, each band normalizes its own rows
once more, which is cheap, and the normalized input is gone once keys and values are there.
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
    value, shared = product.inputs[0], False
    while (node := value.producer()) is not None and len(chain) < LONGEST:
        cheap = kind_of(node, edit.facts) in ("view", "elementwise") or node.op_type in NORMALIZATIONS
        others = [v for v in node.inputs[1:] if v is not None and v.name not in edit.facts.constants]
        if not cheap or others or node.inputs[0] is None or value.is_graph_output():
            break
        shared = shared or len(value.uses()) > 1
        chain.append(node)
        if node.op_type in NORMALIZATIONS:
            break
        value = node.inputs[0]
    if not shared or chain[-1].op_type not in NORMALIZATIONS:
        return False
    copied = chain[-1].inputs[0]
    for node in reversed(chain):
        attrs = {name: attr.value for name, attr in node.attributes.items()}
        version, stem = op_version(node, edit.facts), str(node.outputs[0].name)
        inputs = [copied, *node.inputs[1:]]
        copied = edit.insert(product, node.op_type, inputs, attrs, node.domain, stem=stem, version=version)
    product.replace_input_with(0, copied)
    return True
