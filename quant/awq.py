"""AWQ: protect the weights that large activations meet by scaling them up before rounding (Lin et al. 2023,
arXiv:2306.00978, section 3.2).

Row j of the weights is multiplied by s_j = mean|x_j|^alpha and the input feature divided by it; alpha is searched on
a grid for the least error of the layer's answers on the calibration data. Products of one input share s. Clipping, the
paper's second search, is what `quant.blocks` does for every block. The division goes into what is before the product
where it can; else a Mul is put in if the error falls by a tenth for it.
"""

from __future__ import annotations

import numpy as np
import onnx

from quant.blocks import quantize_blocks
from quant.contract import Options
from quant.divide import rescale, shared_inputs
from quant.graph import Graph
from quant.linear import Linear
from quant.moments import Moments

_GRID = tuple(i / 10 for i in range(11))
_WORTH_A_MUL = 0.9


def awq(
    model: onnx.ModelProto, moments: dict[str, Moments], group: int, symmetric: bool, options: Options
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The float32 model with scales moved, and for each value so divided (by its new name) the scales [K].

    `moments`, of every product's input, are those of the model given; the result's names say which were divided.
    """
    graph = Graph(model)
    scales: dict[str, np.ndarray] = {}
    for data, layers in shared_inputs(graph, options).items():
        alpha, gain = search(moments[data], layers, group, symmetric)
        if alpha == 0:
            continue
        scale = scales_for(moments[data], alpha)
        if rescale(graph, layers, scale, insert=gain < _WORTH_A_MUL):
            divided = layers[0].node.input[0]
            scales[divided] = scale
            moments[divided] = moments[data]
    return graph.finish(), scales


def scales_for(moments: Moments, alpha: float) -> np.ndarray:
    """s [K] for one alpha, its geometric middle at 1 as in the authors' code; 1 where a feature is always 0."""
    sizes = moments.mean_sizes
    scale = np.where(sizes > 0, np.clip(sizes, 1e-4, None), 1) ** alpha
    return scale / np.sqrt(scale.max() * scale.min())


def search(moments: Moments, layers: list[Linear], group: int, symmetric: bool) -> tuple[float, float]:
    """The best alpha for products of one input, and its error as a share of that without scaling."""
    matrix = np.concatenate([layer.matrix for layer in layers], axis=1)
    errors = []
    for alpha in _GRID:
        scale = scales_for(moments, alpha)
        scaled = moments.scaled(scale)
        rounded = quantize_blocks((matrix * scale[:, None]).astype(np.float32), group, symmetric, scaled.mean_squares)
        off = (matrix - rounded.decode() / scale[:, None]).astype(np.float32)
        errors.append(float(np.einsum("kn,kn->", off, moments.hessian.astype(np.float32) @ off)))
    best = int(np.argmin(errors))
    return _GRID[best], errors[best] / errors[0] if errors[0] > 0 else 1.0
