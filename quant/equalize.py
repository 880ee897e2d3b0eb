"""Cross-layer equalisation: rescale channels between layers so that each layer's weight ranges are alike.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. A channel's
output weights are divided by s and the next layer's weights for it multiplied by s, which changes nothing where
f(s x) = s f(x) for positive s holds in between. Every s is a power of two here, so the fp32 answers stay the same to
the bit (short of denormals).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quant.channels import channel_statistics
from quant.graph import Graph, attribute
from quant.weighted import Layers, Weighted

if TYPE_CHECKING:
    import onnx

    from quant.contract import Options
    from quant.data import Samples
    from quant.schemes import Scheme

# Operators with f(s x) = s f(x) for s > 0, channel by channel.
HOMOGENEOUS = {"Relu", "LeakyRelu", "PRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool"}
MARGIN = 1.25  # room left below a Clip's upper bound beyond the largest value that calibration has seen
MOST_ROUNDS = 20  # chains of layers settle in a few rounds; this only bounds the loop


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing but positively homogeneous operators between them."""

    first: Weighted
    second: Weighted
    repeat: int  # consecutive inputs of the second layer that belong to one channel of the first (Flatten)
    clip: str | None = None  # the tensor that goes into a Clip(0, bound) between them
    bound: float = np.inf


@dataclass(frozen=True)
class Equalized:
    """What was done: pairs of layer names, and layers that lead nowhere, with the reason."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def find_pairs(layers: Layers) -> tuple[list[Pair], dict[str, str]]:
    """All pairs of layers to equalise, and why the other layers are none's first."""
    pairs, skipped = [], {}
    for layer in layers.all:
        found = _follow(layers, layer)
        if isinstance(found, str):
            skipped[layer.node.name] = found
        else:
            pairs.append(found)
    return pairs, skipped


def equalize(model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options) -> onnx.ModelProto:
    """The step before rewriting: `model` with equalised weights (in place), whatever the scheme."""
    clipped = [pair.clip for pair in find_pairs(Layers(Graph(model)))[0] if pair.clip]
    maxima = None
    if clipped and samples is not None:
        seen = channel_statistics(model, samples, dict.fromkeys(clipped, 1))
        maxima = {name: channels.high for name, channels in seen.items()}
    equalize_weights(model, maxima)
    return model


def equalize_weights(model: onnx.ModelProto, maxima: Mapping[str, np.ndarray] | None = None) -> Equalized:
    """Equalise the weights of the fp32 `model` in place; what was done.

    maxima: the largest value of each channel (float [channels]) that calibration saw in each tensor that goes into a
    Clip(0, bound) between two layers, as ReLU6. There only channels that stay below the bound are scaled, and never
    so that they would reach it; without maxima those pairs are left alone.
    """
    layers = Layers(Graph(model))
    pairs, skipped = find_pairs(layers)
    known = {name: np.maximum(np.asarray(top, np.float64), 0) for name, top in (maxima or {}).items()}
    for pair in [pair for pair in pairs if pair.clip and pair.clip not in known]:
        skipped[pair.first.node.name] = "a Clip follows, and no calibration data tells which channels stay below it"
        pairs.remove(pair)
    for _ in range(MOST_ROUNDS):
        changed = [_balance(layers, pair, known) for pair in pairs]
        if not any(changed):
            break
    return Equalized([(pair.first.node.name, pair.second.node.name) for pair in pairs], skipped)


def _follow(layers: Layers, layer: Weighted) -> Pair | str:
    """The pair that starts at `layer`, or why there is none."""
    if (problem := layers.fixed(layer)) is not None:
        return problem
    graph, by_name = layers.graph, {other.node.name: other for other in layers.all}
    tensor, flat, clip, bound = layer.output, False, None, np.inf
    while True:
        users = graph.consumers[tensor]
        if tensor in graph.outputs or len(users) != 1:
            return "its output goes to several places"
        node = users[0]
        if node.name in by_name and node.input[0] == tensor:
            break
        if node.op_type == "Flatten" and attribute(node, "axis", 1) == 1:
            flat = True
        elif node.op_type == "Clip" and clip is None:
            low, high = (graph.constant(name) for name in [*node.input[1:3], "", ""][:2])
            if low is None or float(low) != 0 or high is None:
                return "a Clip that is none of Clip(0, bound) follows"
            clip, bound = tensor, float(high)
        elif node.op_type not in HOMOGENEOUS or node.input[0] != tensor or len(node.output) != 1:
            return f"{node.op_type} follows, which does not keep scales"
        tensor = node.output[0]
    second = by_name[node.name]
    if (problem := layers.fixed(second)) is not None:
        return f"{node.name} follows: {problem}"
    if (layer.node.op_type == "Conv") != (second.node.op_type == "Conv") and not flat:
        return "convolution and product meet without Flatten"
    channels = layer.out_channels
    if second.in_channels % channels or (second.in_channels != channels and not flat):
        return f"{node.name} has other channels"
    return Pair(layer, second, second.in_channels // channels, clip, bound)


def _balance(layers: Layers, pair: Pair, maxima: dict[str, np.ndarray]) -> bool:
    """Scale one pair's channels; False where nothing was left to do."""
    one = pair.first.by_output(layers.weights(pair.first))
    two = pair.second.by_input(layers.weights(pair.second))
    range_one = np.abs(one).max(axis=1)
    range_two = np.abs(two).reshape(pair.first.out_channels, -1).max(axis=1)
    alive = (range_one > 0) & (range_two > 0) & np.isfinite(range_one) & np.isfinite(range_two)
    wanted = np.sqrt(np.where(alive, range_one, 1) / np.where(alive, range_two, 1))
    power = np.rint(np.log2(wanted))
    if pair.clip:
        top = maxima[pair.clip] * MARGIN
        least = np.ceil(np.log2(np.maximum(top, 1e-30) / pair.bound))
        # A larger s is safe but for unseen data; a saturated channel (top >= bound) has to stay as it is.
        power = np.where(least <= 0, np.maximum(power, least), 0)
    if not power.any():
        return False
    scale = np.exp2(power)
    layers.scale_outputs(pair.first, 1 / scale)
    layers.scale_inputs(pair.second, np.repeat(scale, pair.repeat))
    if pair.clip:
        maxima[pair.clip] = maxima[pair.clip] / scale
    return True
