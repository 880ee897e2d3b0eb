"""Products of a ReLU's result read only the weights' rows whose neuron is not zero: exact, for models that are compiled
for it. Not in the list of phases: runs after them where it is asked for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.tensor import product
from targets.target import Target

from .edit import EDGERT, Edit


def run(edit: Edit, target: Target) -> bool:
    """Every product [T, F] x constant [F, N] of floats behind a ReLU."""
    changed = False
    for node in edit.nodes("Gemm", domain=EDGERT):
        hidden, weight = node.inputs[:2]
        if hidden is None or weight is None or weight.name not in edit.facts.constants or len(edit.shape(hidden)) != 2:
            continue
        if edit.dtype(weight) != "float32" or edit.dtype(hidden) != "float32" or not _is_relu(hidden):
            continue
        turned, shape = bool(edit.attr(node, "transB", 0)), edit.shape(weight)
        rows, width = (int(product([d])) for d in (shape[::-1] if turned else shape))
        table: ir.Value = weight
        if turned:
            whole = edit.facts.constants[str(weight.name)]
            table = edit.constant("rows", lambda whole=whole: np.asarray(whole).T, ((rows, width), "float32"))  # type: ignore[misc]
        limits = edit.constant("limits", np.zeros(rows, np.float32))
        chosen = edit.insert(node, "ChooseRows", [hidden, limits], domain=EDGERT, stem=f"{node.name}.chosen")
        made = edit.insert(
            node, "ChosenRows", [hidden, chosen, limits, table], {"width": width, "bits": 32}, EDGERT, str(node.name)
        )
        edit.replace(node.outputs[0], made)
        changed = True
    return changed


def _is_relu(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Relu"
