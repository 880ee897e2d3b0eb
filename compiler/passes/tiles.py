"""Rows that products with blocked weights read become bfloat16 tiles where they are many, where their codes are made.

NormCodes | GatedCodes | QuantizeRows -> GemmBlocks | JointBlocks     an output and an input more: the tiles
JointBlocks(gate, up) -> GatedCodes                                   GatedBlocks
"""

from __future__ import annotations

import onnx_ir as ir

from targets.kernels.gemm_blocks_amx import TILES, takes
from targets.kernels.half_rows import LEAST
from targets.kernels.joint_blocks import EACH
from targets.kernels.tensor import largest
from targets.target import Target

from .edit import EDGERT, Edit

BLOCK = 32  # what codes have to share a scale


def run(edit: Edit, target: Target) -> bool:
    """All rows of which every reader is such a product; on AMX."""
    if target.tiles != "amx":
        return False
    makers = [n for n in edit.nodes("NormCodes", "GatedCodes", "QuantizeRows", domain=EDGERT) if _fits(edit, n, target)]
    for node in makers:
        node.resize_outputs(len(node.outputs) + 1)
        tiles = node.outputs[-1]
        tiles.name = edit.name("tiles")
        readers = _readers(node)
        node.attributes["tiles"] = ir.AttrInt64("tiles", 1)
        edit.infer(node)
        for reader in readers:
            count = TILES if reader.op_type == "GemmBlocks" else 2 + EACH * len(reader.outputs)
            reader.resize_inputs(count + 1)
            reader.replace_input_with(count, tiles)
            reader.attributes["tiles"] = ir.AttrInt64("tiles", 1)
    for node in makers:
        if node.op_type == "GatedCodes":
            _gated(edit, node)
    return bool(makers)


def _readers(node: ir.Node) -> list[ir.Node]:
    return list({id(use.node): use.node for out in node.outputs for use in out.uses()}.values())


def _fits(edit: Edit, node: ir.Node, target: Target) -> bool:
    shape, codes = edit.shape(node.outputs[0]), node.outputs[0]
    if (
        edit.attr(node, "tiles", 0)
        or len(shape) != 2
        or int(edit.attr(node, "block")) != BLOCK
        or largest(shape[0]) < LEAST
    ):
        return False
    if not isinstance(shape[1], int) or any(out.is_graph_output() for out in node.outputs):
        return False
    readers = _readers(node)
    return bool(readers) and all(_product(edit, r, codes, target) for r in readers)


def _product(edit: Edit, node: ir.Node, codes: ir.Value, target: Target) -> bool:
    if node.domain != EDGERT or node.op_type not in ("GemmBlocks", "JointBlocks") or node.inputs[0] is not codes:
        return False
    kinds = [edit.attr(node, name) for name in ("bits", "zero")]
    kinds = [[k] if isinstance(k, int) else list(k) for k in kinds]
    rows = edit.shape(codes)[0]
    return all(takes(target, rows, int(bits), int(zero)) for bits, zero in zip(*kinds, strict=True))


def _gated(edit: Edit, node: ir.Node) -> None:
    """One node of GatedCodes and the products that only it reads; a number of rows known at run time."""
    joint, gate, up = node.inputs[0].producer() if node.inputs[0] is not None else None, *node.inputs[:2]
    if joint is None or joint.op_type != "JointBlocks" or list(joint.outputs) != [gate, up]:
        return
    if not edit.attr(joint, "tiles", 0) or any(edit.only_use(out) is not node for out in joint.outputs):
        return
    biases = [joint.inputs[2 + EACH * (i + 1) - 1] for i in range(2)]
    if any(bias is not None for bias in biases) or isinstance(edit.shape(node.outputs[0])[0], int):
        return
    attributes = [*joint.attributes.values(), *node.attributes.values()]
    made = ir.node(
        "GatedBlocks", list(joint.inputs), {a.name: a.value for a in attributes}, domain=EDGERT, version=1,
        outputs=[ir.Value(name=edit.name(str(out.name))) for out in node.outputs], name=str(joint.name),
    )  # fmt: skip
    edit.graph.insert_before(node, made)
    edit.infer(made)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        edit.replace(old, new)
