"""nf4: 4-bit NormalFloat weights with double quantization (Dettmers et al. 2023, QLoRA, arXiv:2305.14314, section 3).

The 16 levels are quantiles of a normal distribution, so that each is used about as often; a block of G weights (64)
along the axis a product sums over is divided by its largest size. The blocks' scales are themselves int8: their mean is
taken off, then each run of 256 gets one float32 scale. A weight takes 4 + 8/64 + 32/(64*256) = 4.127 bits. A MatMul by
a constant [K, N] takes its weights from exactly

    i  = Cast(codes uint4 [K/G, G, N], to INT32)
    v  = Gather(levels float32 [16], i)                  # [K/G, G, N]
    c  = DequantizeLinear(scale_codes int8 [K/G*N, 1], scale_scales float32 [ceil(K/G*N/256), 1], axis=0,
                          block_size=256)
    o  = Add(c, mean float32 [])                         # the scales, float32 [K/G*N, 1]
    s  = Reshape(o, int64 [K/G, 1, N])
    p  = Mul(v, s)
    w  = Reshape(p, int64 [K, N])
    y  = MatMul(x, w)                                    # a Gemm keeps its other inputs; with transB: Transpose(w)

G is the scheme's 64, or 32 or 16 where that does not divide K; a product no group divides stays float32. Activations
stay float32. Lookup tables get int8 rows (see `quant.embedding`). QLoRA's second level has 8-bit floats, here it is
int8, which standard operators read: off by at most 1/254 of a run's largest difference from the mean.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from quant.blocks import usable
from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.embedding import int8_tables
from quant.graph import Graph
from quant.linear import Linear, linears, replace_weights
from quant.schemes import Scheme

# QLoRA's appendix E: the data type as the paper prints it.
LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
    np.float32,
)  # fmt: skip
_RUN = 256  # scales that share a scale


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """nf4 weights for every product by a constant matrix. Needs no calibration data."""
    graph = Graph(model)
    found, layers = linears(graph, options)
    assert scheme.weights is not None
    wanted = options.group or scheme.weights.group
    stored: dict[tuple[str, bool], str] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        k = len(layer.matrix)
        group = next((g for g in (wanted, 64, 32, 16) if g <= wanted and k % g == 0), 0)
        if not group:
            reason = f"no group from 16 to {wanted} divides the {k} inputs"
            layers.append(Layer(layer.node.name, layer.node.op_type, None, reason))
            continue
        replace_weights(graph, layer, stored, partial(_stored, graph, layer, group))
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name))
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def _stored(graph: Graph, layer: Linear, group: int) -> str:
    return store(graph, layer.weight, np.ascontiguousarray(layer.matrix), group)


def store(graph: Graph, base: str, matrix: np.ndarray, group: int) -> str:
    """Add the constants and nodes above for float32 [K, N]; the name of w."""
    import ml_dtypes

    k, n = matrix.shape
    cube = matrix.reshape(-1, group, n)
    codes, mean, runs = double_quantize(usable(np.abs(cube).max(axis=1)).ravel())
    scales = undo(codes, mean, runs).reshape(-1, 1, n)
    # Codes are chosen for the scales as they will be read. A scale that came out as 0 or less says nothing of its
    # block's weights; the level nearest to 0 does no harm there.
    indices = np.where(scales > 0, nearest(cube / np.where(scales > 0, scales, 1)), 7)

    def constant(name: str, array: np.ndarray) -> str:
        return graph.add_constant(f"{base}_{name}", np.ascontiguousarray(array))

    def shape(*dims: int) -> str:
        return constant("shape", np.array(dims, np.int64))

    wide = graph.add("Cast", [constant("nf4", indices.astype(ml_dtypes.uint4))], f"{base}_codes", to=TensorProto.INT32)
    values = graph.add("Gather", [constant("levels", LEVELS), wide], f"{base}_values")
    # two dimensions: ONNX Runtime takes a vector of one scale for the whole tensor's, which has no blocks
    read = [constant("scale_codes", codes[:, None]), constant("scale_scales", runs[:, None])]
    centred = graph.add("DequantizeLinear", read, f"{base}_scales_centred", axis=0, block_size=_RUN)
    flat = graph.add("Add", [centred, constant("scale_mean", mean)], f"{base}_scales_flat")
    scale = graph.add("Reshape", [flat, shape(k // group, 1, n)], f"{base}_scales")
    product = graph.add("Mul", [values, scale], f"{base}_scaled")
    return graph.add("Reshape", [product, shape(k, n)], f"{base}_dequantized")


def nearest(values: np.ndarray) -> np.ndarray:
    """The index of the level nearest to each value, uint8."""
    return np.searchsorted((LEVELS[1:] + LEVELS[:-1]) / 2, values).astype(np.uint8)


def double_quantize(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 [n] as int8 codes [n], their mean float32 [], and a float32 scale for each run of 256 codes."""
    mean = np.float32(scales.mean())
    off = scales - mean
    starts = np.arange(0, len(off), _RUN)
    runs = usable(np.maximum.reduceat(np.abs(off), starts) / np.float32(127))
    codes = np.rint(off / np.repeat(runs, _RUN)[: len(off)]).clip(-127, 127).astype(np.int8)
    return codes, np.asarray(mean), runs


def undo(codes: np.ndarray, mean: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """What `double_quantize` is read back as, float32 [n]."""
    return codes.astype(np.float32) * np.repeat(runs, _RUN)[: len(codes)] + mean
