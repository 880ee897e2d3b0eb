"""SmoothQuant: move the outliers of activations into the weights, where they hurt less (Xiao et al. 2022,
arXiv:2211.10438, equations 3 and 4).

Feature j of a product's input is divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), row j of the weights
multiplied by it; the float32 answers stay the same. As in the paper the division goes into what is before the product
(a layer normalisation's weights, say), where it is free; where it cannot, the product stays as it is.
"""

from __future__ import annotations

import numpy as np
import onnx

from quant.contract import Options
from quant.data import Samples
from quant.divide import rescale, shared_inputs
from quant.graph import Graph
from quant.linear import Linear
from quant.moments import collect
from quant.schemes import Scheme
from targets.errors import UsageError


def smooth(model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options) -> onnx.ModelProto:
    """The model with the same answers and smoother activations, `options.smooth` being alpha.

    Raises UsageError without calibration data, or for an alpha outside [0, 1].
    """
    alpha = options.smooth if options.smooth is not None else 0.5
    if samples is None:
        raise UsageError("SmoothQuant needs calibration data: give an .npz file or a folder of samples")
    if not 0 <= alpha <= 1:
        raise UsageError(f"SmoothQuant's alpha is {alpha:g}; give one from 0 (activations as they are) to 1")
    graph = Graph(model)
    groups = shared_inputs(graph, options)
    moments = collect(model, groups, samples, products=False)
    for data, layers in groups.items():
        rescale(graph, layers, smoothing(moments[data].largest, layers, alpha), insert=False)
    return graph.finish()


def smoothing(largest: np.ndarray, layers: list[Linear], alpha: float) -> np.ndarray:
    """The scales s [K] for inputs with the `largest` sizes [K]; 1 where a feature or its weights are always 0."""
    weights = np.max([np.abs(layer.matrix).max(axis=1) for layer in layers], axis=0).astype(np.float64)
    alive = (largest > 0) & (weights > 0)
    scale = np.where(alive, largest, 1) ** alpha / np.where(alive, weights, 1) ** (1 - alpha)
    return np.where(alive, np.clip(scale, 1e-5, 1e5), 1)
