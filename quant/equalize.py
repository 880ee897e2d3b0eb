"""Cross-layer equalisation: rescale channels between layers so that the ranges that share a scale are alike.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. A channel's
output weights are divided by s and the next layer's weights for it multiplied by s, which changes nothing where
f(s x) = s f(x) for positive s holds in between. Every s is a power of two here, so the fp32 answers stay the same to
the bit (short of denormals).

The paper balances the first layer's weights against the second's, for weights with one scale a tensor. Here each
output channel of the weights has its own scale, the values between the layers have one in common. So with calibration
data it is those values that are balanced against the second layer's weights; where these see one channel each
(depthwise), their scale is free and all channels of the values are given the same range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quant.channels import Channels, channel_statistics
from quant.graph import Graph, attribute
from quant.weighted import Layers, Weighted

if TYPE_CHECKING:
    import onnx

    from quant.contract import Options
    from quant.data import Samples
    from quant.schemes import Scheme

# Operators with f(s x) = s f(x) for s > 0, channel by channel.
HOMOGENEOUS = {"Relu", "LeakyRelu", "PRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool"}
NARROWEST = 1 / 32  # channels seen narrower than this share of the widest may be wider in other data: count as this
MOST_ROUNDS = 20  # chains of layers settle in a few rounds; this only bounds the loop


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing but positively homogeneous operators between them."""

    first: Weighted
    second: Weighted
    between: str  # the values that go from one to the other, before any Flatten
    repeat: int  # consecutive inputs of the second layer that belong to one channel of the first (Flatten)


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
    """The step before rewriting: `model` with equalised weights (in place), by what `samples` show where given."""
    pairs, _ = find_pairs(Layers(Graph(model)))
    seen = None
    if samples is not None:
        axes = {pair.between: 1 if pair.first.node.op_type == "Conv" else -1 for pair in pairs}
        seen = channel_statistics(model, samples, axes) if axes else None
    equalize_weights(model, seen)
    return model


def equalize_weights(model: onnx.ModelProto, seen: Mapping[str, Channels] | None = None) -> Equalized:
    """Equalise the weights of the fp32 `model` in place; what was done.

    seen: what calibration saw of every pair's `between`; without, weights are balanced against weights. Layers with a
    Clip between them, as ReLU6, are left alone: each channel would need a bound of its own, and room below the bound
    that calibration saw is gone in other data (EfficientNet-Lite0's float32 answers fell to a cosine of 0.92).
    """
    layers = Layers(Graph(model))
    pairs, skipped = find_pairs(layers)
    values = {name: channels.magnitude for name, channels in (seen or {}).items()}
    for _ in range(MOST_ROUNDS):
        changed = [_balance(layers, pair, values) for pair in pairs]
        if not any(changed):
            break
    return Equalized([(pair.first.node.name, pair.second.node.name) for pair in pairs], skipped)


def _follow(layers: Layers, layer: Weighted) -> Pair | str:
    """The pair that starts at `layer`, or why there is none."""
    if (problem := layers.fixed(layer)) is not None:
        return problem
    graph, by_name = layers.graph, {other.node.name: other for other in layers.all}
    tensor, between = layer.output, None
    while True:
        users = graph.consumers[tensor]
        if tensor in graph.outputs or len(users) != 1:
            return "its output goes to several places"
        node = users[0]
        if node.name in by_name and node.input[0] == tensor:
            break
        if node.op_type == "Flatten" and attribute(node, "axis", 1) == 1:
            between = tensor
        elif node.op_type not in HOMOGENEOUS or node.input[0] != tensor or len(node.output) != 1:
            return f"{node.op_type} follows, which does not keep scales"
        tensor = node.output[0]
    second = by_name[node.name]
    if (problem := layers.fixed(second)) is not None:
        return f"{node.name} follows: {problem}"
    if (layer.node.op_type == "Conv") != (second.node.op_type == "Conv") and between is None:
        return "convolution and product meet without Flatten"
    channels = layer.out_channels
    if second.in_channels % channels or (second.in_channels != channels and between is None):
        return f"{node.name} has other channels"
    return Pair(layer, second, between or tensor, second.in_channels // channels)


def _balance(layers: Layers, pair: Pair, values: dict[str, np.ndarray]) -> bool:
    """Scale one pair's channels; False where nothing was left to do."""
    two = np.abs(pair.second.by_input(layers.weights(pair.second))).reshape(pair.first.out_channels, -1).max(axis=1)
    if pair.between in values:
        one = values[pair.between]
        one = np.where(one > 0, np.maximum(one, one.max() * NARROWEST), 0)
    else:
        one = np.abs(pair.first.by_output(layers.weights(pair.first))).max(axis=1)
    alive = (one > 0) & (two > 0) & np.isfinite(one) & np.isfinite(two)
    if not alive.any():
        return False
    ratio = np.ones_like(two, dtype=np.float64)
    if pair.between in values:
        depthwise = pair.second.group == pair.second.in_channels > 1
        ratio[alive] = one[alive] if depthwise else np.sqrt(one[alive] / two[alive])
        ratio[alive] /= ratio[alive].max()  # the values' common scale is free: the widest channel stays
    else:
        ratio[alive] = np.sqrt(one[alive] / two[alive])
    power = np.rint(np.log2(ratio))
    if not power.any():
        return False
    scale = np.exp2(power)
    layers.scale_outputs(pair.first, 1 / scale)
    layers.scale_inputs(pair.second, np.repeat(scale, pair.repeat))
    if pair.between in values:
        values[pair.between] = values[pair.between] / scale
    return True
