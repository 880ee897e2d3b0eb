"""How the 4-bit schemes round weights: to nearest with searched scales, by GPTQ, or by AWQ."""

from __future__ import annotations

import numpy as np
import onnx

from quant.awq import awq
from quant.blocks import Blocks, quantize_blocks
from quant.contract import Options, Progress
from quant.data import Samples
from quant.gptq import Curvature, curvature_of, gptq
from quant.graph import Graph
from quant.linear import Linear, linears
from quant.moments import Moments, collect
from quant.schemes import Scheme
from targets.errors import UsageError

ROUNDINGS = ("nearest", "gptq", "awq")


class Rounding:
    """Rounds the weights of `model` (the given one, or what AWQ made of it) for a 4-bit scheme.

    `group` and `symmetric` are the format. Raises UsageError for an unknown way of rounding, a group that is no
    positive multiple of 16 (DequantizeLinear's kernels take no others), or calibration data that is missing.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        scheme: Scheme,
        samples: Samples | None,
        options: Options,
        progress: Progress | None = None,
    ) -> None:
        assert scheme.weights is not None
        self.group = options.group or scheme.weights.group
        self.symmetric = scheme.weights.symmetric
        if self.group < 16 or self.group & (self.group - 1):
            raise UsageError(f"groups of {self.group} weights: give a power of two from 16, say 32, 64 or 128")
        self._way = options.rounding or ("nearest" if samples is None else "gptq")
        if self._way not in ROUNDINGS:
            raise UsageError(f"no rounding is called {self._way!r}; there are {', '.join(ROUNDINGS)}")
        self.model = model
        self._moments: dict[str, Moments] = {}
        self._curvature: dict[str, Curvature] = {}
        if self._way == "nearest":
            return
        if samples is None:
            raise UsageError(f"{self._way} rounding needs calibration data: give an .npz file or a folder of samples")
        data = [layer.data for layer in linears(Graph(model), options)[0]]
        self._moments = collect(model, data, samples, progress)
        if self._way == "awq":
            self.model, scales = awq(model, self._moments, self.group, self.symmetric, options)
            self._moments = {name: m.scaled(scales[name]) if name in scales else m for name, m in self._moments.items()}

    def blocks(self, layer: Linear) -> Blocks:
        """The layer's weights in 4 bits."""
        matrix = np.ascontiguousarray(layer.matrix, np.float32)
        moments = self._moments.get(layer.data)
        if moments is None:
            return quantize_blocks(matrix, self.group, self.symmetric)
        if self._way == "gptq":
            if layer.data not in self._curvature:  # products of one input follow each other
                self._curvature = {layer.data: curvature_of(moments.hessian)}
            return gptq(matrix, moments.hessian, self.group, self.symmetric, self._curvature[layer.data])
        return quantize_blocks(matrix, self.group, self.symmetric, moments.mean_squares)
