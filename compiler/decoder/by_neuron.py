"""Feed-forward layers of which a token reads only the neurons that it needs, where the model is compiled for that.

A neuron counts where its part in the result, |activation(gate) * up| times the length of its column, is above the
layer's threshold, which is taken from calibration (training-free, as TEAL, Liu et al., arXiv 2408.14690). Gate and up
are read whole; of the down projection, single columns, stored as rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compiler.decoder.products import Products
from compiler.gguf import Tensor
from compiler.gguf.blocks import Blocks
from compiler.passes.edit import EDGERT
from flashload.bundles import pack, row_bytes


@dataclass(frozen=True)
class ByNeuron:
    """limits: of |activation(gate) * up| of every layer, by its name, float32 [ffn]: what is not above is left out."""

    limits: Mapping[str, np.ndarray]


def down_by_neuron(graph: Products, hidden: ir.Value, at: str, plan: ByNeuron) -> ir.Value:
    """Layer `at`'s down projection of hidden float32 [seq, ffn]."""
    weight, limits = graph.weights[f"{at}.down"], plan.limits[at]
    limit = graph.lazy(f"{at}.limits", np.float32, limits.shape, lambda: limits)
    chosen = graph.op("ChooseRows", [hidden, limit], f"{at}.chosen", EDGERT)
    blocks = weight.blocks(slice(0, 1)) if weight.quantized else None
    if blocks is None:
        table = graph.lazy(f"{at}.down.rows", np.float32, weight.shape[::-1], lambda: weight.numpy().T)
        more: list[ir.Value | None] = []
        attributes = {"bits": 32}
    else:
        bits = 4 if blocks.bits == 4 else 8
        used = weight.shape[0] * bits // 8
        shape = (weight.shape[1], row_bytes(used))
        table = graph.lazy(f"{at}.down.rows", np.uint8, shape, lambda: pack(_codes(weight).T, bits, shape[1]))
        more = [_factors(graph, f"{at}.down", of) for of in ("scale", "minimum")]
        attributes = {"bits": bits, "size": blocks.size, "zero": blocks.zero}
    inputs = [hidden, chosen, limit, table, *more]
    return graph.op("ChosenRows", inputs, f"{at}.down.out", EDGERT, width=weight.shape[0], **attributes)


def _factors(graph: Products, name: str, of: str) -> ir.Value | None:
    """Scales or minima [ffn / size, width]: float16 where that is what is stored."""
    weight = graph.weights[name]
    first = weight.blocks(slice(0, 1))
    assert first is not None
    row = getattr(first, of)
    if row is None:
        return None
    dtype = np.float16 if first.super_scale is None else np.float32

    def made() -> np.ndarray:
        whole = weight.blocks(slice(None))
        return np.ascontiguousarray(getattr(whole, of).T.astype(dtype))

    return graph.lazy(f"{name}.{of}.rows", dtype, (row.shape[1], weight.shape[0]), made)


def _codes(weight: Tensor) -> np.ndarray:
    whole: Blocks | None = weight.blocks(slice(None))
    assert whole is not None
    return whole.codes
