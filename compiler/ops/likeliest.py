"""The likeliest token of each row, for a decoder whose logits nobody else wants: see targets/kernels/likeliest.py."""

from __future__ import annotations

from targets.kernels.block_codes import BlockCodes
from targets.kernels.likeliest import likeliest
from targets.kernels.registry import Call
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor
from targets.target import Target

from .registry import Custom, Node, Unsupported, op


@op("LikeliestBlocks", domain="edgert")
def likeliest_blocks(node: Node) -> Custom:
    """Inputs and attributes of GemmBlocks, rows [M, K], weights of 8 bits in planes -> int64 [M]: of each row the
    column of its greatest product, the first of equals; -1 where none is a number."""
    a, codes = node.need(0), node.need(3)
    if a.ndim != 2 or int(node.attr("bits")) != 8 or int(node.attr("size")) != 32 or not node.attr("planes", 0):
        raise Unsupported("the likeliest of these products", "rows times weights of 8 bits in blocks of 32, in planes")
    winner = Tensor((a.shape[0],), "int64", "likeliest")

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        weights = BlockCodes.of(node.attrs, node.inputs[3:5], target)
        assert weights is not None and weights.planes
        call = Call("edgert.LikeliestBlocks", node.attrs, node.inputs, [winner], winner, results)
        return likeliest(call, weights, target)

    inputs = tuple(t for t in node.inputs if t is not None)
    macs = int(codes.shape[0]) * int(codes.shape[1])
    return Custom([winner], emit, inputs, macs=macs)
