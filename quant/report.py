"""What quantizing did to each layer and to the whole: the numbers of `edgert quantize --report`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx

from quant import harm
from quant.contract import Layer, Progress
from quant.evaluate import Judge, Quality, Sample
from quant.graph import Graph, used_by
from quant.model import tensor_bytes
from quant.similarity import Similarity
from quant.splice import FLOAT, Splice
from quant.taps import Taps

VERSION = "quantized"


@dataclass(frozen=True)
class LayerReport:
    """One quantized layer, measured at its output.

    `sqnr_db` and `cosine` compare the output with float32 in the model as it is, errors of earlier layers included;
    `alone_db` is the SQNR of the model's output with only this layer quantized (None: not measured): the lower, the
    more harm it does. `low`, `high`: the float32 values seen; `range_used`: the share of the range its codes can
    express that those span, `clipped`: the share of the values' span beyond it (None where it has no fixed range).
    Bytes are those of its constants, scales and zero points included.
    """

    layer: str
    op: str
    scheme: str
    tensor: str
    sqnr_db: float
    cosine: float
    low: float
    high: float
    range_used: float | None
    clipped: float | None
    bytes_before: int
    bytes_after: int
    alone_db: float | None


@dataclass(frozen=True)
class Report:
    """Layers with the most harmful first, layers left in float32 with the reason, and the whole model's quality.

    `ranked_by`: `alone_db` or `sqnr_db`. Bytes are those of all constants.
    """

    scheme: str
    quality: Quality
    layers: list[LayerReport]
    kept: list[Layer]
    ranked_by: str
    bytes_before: int
    bytes_after: int
    notes: list[str] = field(default_factory=list)


def make_report(
    scheme: str,
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    layers: list[Layer],
    judge: Judge,
    samples: Iterable[Sample],
    alone: bool | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure `quantized` against the float32 `model` it was rewritten from, streaming over `samples`.

    layers: what the rewriter said of each node. alone: measure each layer's harm alone (None: where there are few
    enough of them).
    """
    splice = Splice(model, {VERSION: quantized})
    which = harm.parts(splice, VERSION, layers)
    tell = (lambda done: progress("the whole model", done, None)) if progress else None
    quality = judge.quality(quantized, each=tell)
    alike = compare(model, splice.whole(VERSION), [part.tensor for part in which], samples, progress)
    measured: dict[str, float] = {}
    if alone or (alone is None and len(which) <= harm.MOST_SECTIONS):
        measured = harm.alone(splice, VERSION, which, judge, progress)
    key = measured or {part.tensor: alike[part.tensor].sqnr_db for part in which}
    ranges = code_ranges(splice.graphs[VERSION])
    schemes = {layer.node: layer.scheme for layer in layers if layer.scheme}
    return Report(
        scheme=scheme,
        quality=quality,
        layers=[
            _row(part, splice, alike[part.tensor], ranges, schemes[part.node], measured)
            for part in harm.ranked(which, key)
        ],
        kept=[layer for layer in layers if layer.scheme is None],
        ranked_by="alone_db" if measured else "sqnr_db",
        bytes_before=_bytes_of(splice.graphs[FLOAT], splice.graphs[FLOAT].nodes),
        bytes_after=_bytes_of(splice.graphs[VERSION], splice.graphs[VERSION].nodes),
    )


def compare(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    tensors: list[str],
    samples: Iterable[Sample],
    progress: Progress | None = None,
) -> dict[str, Similarity]:
    """How alike both models' `tensors` are over all samples."""
    one, two = Taps(model, tensors), Taps(quantized, tensors)
    alike = {name: Similarity() for name in tensors}
    for done, feeds in enumerate(samples, 1):
        reference, value = one.run(feeds), two.run(feeds)
        for name, similarity in alike.items():
            similarity.add(reference[name], value[name])
        if progress:
            progress("layer by layer", done, None)
    return alike


def code_ranges(graph: Graph) -> dict[str, tuple[float, float]]:
    """The least and largest value that the codes of each quantized tensor express, where its scale is one constant."""
    ranges = {}
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = graph.constant(node.input[1]), graph.constant(node.input[2]) if len(node.input) > 2 else None
        if scale is None or scale.size != 1 or (zero is None and len(node.input) > 2):
            continue
        dtype = np.dtype(np.uint8) if zero is None else zero.dtype
        if dtype.kind not in "iu":
            continue
        code, offset, step = np.iinfo(dtype), 0 if zero is None else int(zero.item()), float(scale.item())
        ranges[node.input[0]] = ((code.min - offset) * step, (code.max - offset) * step)
    return ranges


def _row(
    part: harm.Part,
    splice: Splice,
    alike: Similarity,
    ranges: dict[str, tuple[float, float]],
    scheme: str,
    alone: dict[str, float],
) -> LayerReport:
    used, clipped = None, None
    if (codes := ranges.get(part.tensor)) and math.isfinite(alike.high - alike.low):
        low, high = max(alike.low, codes[0]), min(alike.high, codes[1])
        used = max(0.0, high - low) / (codes[1] - codes[0])
        span = alike.high - alike.low
        clipped = 1 - max(0.0, high - low) / span if span > 0 else 0.0
    return LayerReport(
        layer=part.node,
        op=part.op,
        scheme=scheme,
        tensor=part.tensor,
        sqnr_db=alike.sqnr_db,
        cosine=alike.cosine,
        low=alike.low,
        high=alike.high,
        range_used=used,
        clipped=clipped,
        bytes_before=_bytes_of(splice.graphs[FLOAT], part.section.made_of[FLOAT]),
        bytes_after=_bytes_of(splice.graphs[VERSION], part.section.made_of[VERSION]),
        alone_db=alone.get(part.tensor),
    )


def _bytes_of(graph: Graph, nodes: Iterable[onnx.NodeProto]) -> int:
    """Bytes of the constants that the nodes take."""
    names = {name for node in nodes for name in used_by(node) if name in graph.initializers}
    return sum(tensor_bytes(graph.initializers[name]) for name in names)
