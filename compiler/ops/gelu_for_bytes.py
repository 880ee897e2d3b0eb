"""The compiler's own Gelu for results that are quantized at once."""

from __future__ import annotations

from targets.kernels import vmath
from targets.kernels.tensor import Tensor

from .elementwise import unary
from .registry import Node, op


@op("GeluForBytes", kind="elementwise", domain="edgert")
def gelu_for_bytes(node: Node) -> Tensor:
    """x * Phi(x) of float32: see vmath.gelu_for_bytes."""
    return unary(node, vmath.gelu_for_bytes)
