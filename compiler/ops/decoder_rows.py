"""What lies between a decoder's products with blocked weights: rows that are made and quantized at once, and products
of the same rows.

Each is by definition what its parts are: RMSNormalization, Mul and activations; QuantizeRows; GemmBlocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from targets.kernels.gated_codes import ACTIVE
from targets.kernels.joint_blocks import EACH, parts
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor, compute, largest, product, same_dim, same_shape
from targets.target import Target

from . import mathfn as fn
from .activation import gelu
from .block_codes import gemm_blocks
from .blocked import quantize_rows
from .norm import rms_normalization
from .registry import Custom, Node, Unsupported, op


@op("NormCodes", domain="edgert")
def norm_codes(node: Node) -> Sequence[Tensor]:
    """x float32 [..., K], weight float32 [K] -> QuantizeRows's outputs of x / sqrt(mean(x^2) + epsilon) * weight.

    Attributes: epsilon; block and sums as QuantizeRows has them.
    """
    if node.need(0).dtype != "float32" or node.need(1).dtype != "float32":
        raise Unsupported(f"rows of {node.need(0).dtype} times {node.need(1).dtype}", "float32")
    normal = replace(node, attrs={"axis": -1, "epsilon": node.attr("epsilon", 1e-5)})
    return quantize_rows(replace(node, inputs=[rms_normalization(normal)]))


@op("GatedCodes", domain="edgert")
def gated_codes(node: Node) -> Sequence[Tensor]:
    """gate, up float32 [..., K] -> QuantizeRows's outputs of activation(gate) * up.

    Attributes: activation ("silu" or "gelu_tanh"); block and sums as QuantizeRows has them.
    """
    gate, up, name = node.need(0), node.need(1), node.attr("activation")
    if {gate.dtype, up.dtype} != {"float32"} or not same_shape(gate.shape, up.shape):
        raise Unsupported(f"{gate.dtype} {gate.shape} gating {up.dtype} {up.shape}", "float32 of one shape")
    if name not in ACTIVE:
        raise Unsupported(f"activation {name!r}", ", ".join(ACTIVE))
    silu = name == "silu"
    active = compute(
        gate.shape, "float32", lambda *i: gate(*i) * fn.sigmoid(gate(*i)) if silu else gelu(gate(*i), True), [gate]
    )
    gated = compute(gate.shape, "float32", lambda *i: active(*i) * up(*i), [active, up], "gated")
    return quantize_rows(replace(node, inputs=[gated]))


@op("JointBlocks", domain="edgert")
def joint_blocks(node: Node) -> Sequence[Tensor]:
    """Several GemmBlocks of the same rows, a bias added where there is one: float32 [..., M, N] for each.

    Inputs: codes int8 [..., M, K], scales [..., M, K/32]; then for each product the sums, the weight's codes, scale,
    minimum, super_scale, super_minimum, and bias float32 [N] or nothing. Attributes bits, size, zero: a list each;
    tiles: whether a last input is QuantizeRows's tiles.
    """
    results = []
    if not len(node.attr("bits")) == len(node.attr("size")) == len(node.attr("zero")) == len(node.outputs):
        raise Unsupported(f"{len(node.outputs)} products of {len(node.attr('bits'))} weights")
    if len(node.inputs) > 2 + EACH * len(node.outputs) + int(node.attr("tiles", 0)):
        raise Unsupported(f"{len(node.inputs)} inputs for {len(node.outputs)} products")
    for (*operands, bias), attrs in zip(*parts(node.inputs, node.attrs), strict=True):
        made = gemm_blocks(replace(node, inputs=operands, attrs=attrs))
        results.append(made if bias is None else _biased(made, bias))
    return results


@op("GatedBlocks", domain="edgert")
def gated_blocks(node: Node) -> Custom:
    """GatedCodes of two products of the same rows: JointBlocks's inputs with tiles, GatedCodes's outputs with tiles.

    Attributes: those of both. Where compiler/passes/tiles.py makes it, a kernel takes it.
    """
    codes, weights = node.need(0), node.need(3)
    rows, cols = codes.shape[0], weights.shape[0]
    gated = Tensor((rows, cols), "float32", "gated")
    made = quantize_rows(replace(node, inputs=[gated]))
    outputs = [Tensor(t.shape, t.dtype, t.name) for t in made]

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        raise Unsupported(f"gated products in tiles on {target.name}", "a target with AMX")

    return Custom(outputs, emit, macs=largest(product([rows, cols, codes.shape[1]])) * 2)


def _biased(made: Tensor, bias: Tensor) -> Tensor:
    if bias.dtype != "float32" or bias.ndim != 1 or not same_dim(bias.shape[0], made.shape[-1]):
        raise Unsupported(f"a bias {bias.dtype} {bias.shape} of {made.shape}", "float32, one for each column")
    return compute(made.shape, "float32", lambda *i: made(*i) + bias(i[-1]), [made, bias], "biased")
