"""The router of the next mixture of experts, asked one layer early: what it is likely to take can be read meanwhile
(Pre-gated MoE, Hwang et al., arXiv 2308.12066; here only a hint, so that answers stay the same)."""

from __future__ import annotations

from itertools import pairwise

from targets.kernels.tensor import same_dim
from targets.target import Target

from .edit import Edit

CONTRIB = "com.microsoft"
EARLY = 8  # the input behind those of the operator


def run(edit: Edit, target: Target) -> bool:
    """Every MoE whose next one's router is a product with a constant that also fits this one's input."""
    changed = False
    for node, following in pairwise(edit.nodes("MoE", domain=CONTRIB)):
        x, logits = node.inputs[0], following.inputs[1]
        product = None if logits is None else logits.producer()
        if x is None or product is None or product.op_type != "MatMul" or len(node.inputs) > EARLY:
            continue
        weight = product.inputs[1]
        if weight is None or not edit.is_weight(weight) or not same_dim(edit.shape(x)[-1], edit.shape(weight)[0]):
            continue
        early = edit.insert(node, "MatMul", [x, weight], stem=f"{following.name}.early")
        inputs = [*node.inputs, *[None] * (EARLY - len(node.inputs)), early]
        attributes = {key: attribute.value for key, attribute in node.attributes.items()}
        made = edit.insert(node, "MoE", inputs, attributes, CONTRIB, str(node.name), version=1)
        edit.replace(node.outputs[0], made)
        changed = True
    return changed
