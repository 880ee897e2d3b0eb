"""The harm that each section of a model does alone: only it quantized, all else in float32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from quant.contract import Layer, Progress
from quant.evaluate import Judge
from quant.graph import Graph
from quant.splice import FLOAT, Section, Splice

# Which of a section's quantized nodes names it: those with weights, then any.
MAIN = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
HARM_SAMPLES = 8  # ranking needs few: every sample has thousands of values
MOST_SECTIONS = 160  # more are ranked by the SQNR of their own output, unless asked


@dataclass(frozen=True)
class Part:
    """A section that some version quantizes, with the node that names it."""

    section: Section
    node: str
    op: str

    @property
    def tensor(self) -> str:
        """The value it makes."""
        return self.section.tensor


def parts(splice: Splice, version: str, layers: Sequence[Layer]) -> list[Part]:
    """The sections in which the rewriter quantized a node, as `layers` tell, in the order of the graph."""
    quantized = {layer.node for layer in layers if layer.scheme}
    found = []
    for section in splice.sections:
        nodes = {node.name: node.op_type for node in section.made_of[FLOAT] if node.name in quantized}
        if nodes and changed(splice, section, version):
            name = min(nodes, key=lambda name: nodes[name] not in MAIN)
            found.append(Part(section, name, nodes[name]))
    return found


def with_moves(splice: Splice, choice: Mapping[str, str], versions: Sequence[str]) -> dict[str, str]:
    """`choice` with the sections it does not name: what only moves values (Transpose, MaxPool) goes with its reader.

    A section whose readers are all of one version that has it in another way than float32 is of that version too.
    """
    full = dict(choice)
    readers: dict[str, set[str]] = {}
    for section in reversed(splice.sections):
        wanted = readers.get(section.tensor, set())
        if section.tensor not in full and len(wanted) == 1:
            version = next(iter(wanted))
            if version in versions and changed(splice, section, version):
                full[section.tensor] = version
        for name in section.reads:
            readers.setdefault(name, set()).add(full.get(section.tensor, FLOAT))
    return full


def changed(splice: Splice, section: Section, version: str) -> bool:
    """Whether a version makes this section's value in another way than the float32 model."""
    return _content(splice.graphs[FLOAT], section.made_of[FLOAT]) != _content(
        splice.graphs[version], section.made_of[version]
    )


def alone(
    splice: Splice, version: str, which: Sequence[Part], judge: Judge, progress: Progress | None = None
) -> dict[str, float]:
    """SQNR in dB of the model's worst output with one part quantized and all else float32, by the part's tensor.

    The lower, the more harm; inf where the part changes nothing.
    """
    harm = {}
    for i, part in enumerate(which):
        if progress:
            progress("each layer alone", i, len(which))
        harm[part.tensor] = judge.quality(splice.mix({part.tensor: version}), HARM_SAMPLES).sqnr_db
    return harm


def ranked(which: Sequence[Part], harm: Mapping[str, float]) -> list[Part]:
    """The parts, most harmful first; in the graph's order where alike."""
    return sorted(which, key=lambda part: harm.get(part.tensor, math.inf))


def _content(graph: Graph, nodes: Sequence[onnx.NodeProto]) -> tuple[set[bytes], dict[str, onnx.TensorProto]]:
    texts: set[bytes] = set()
    constants: dict[str, onnx.TensorProto] = {}
    for node in nodes:
        texts.add(node.SerializeToString(deterministic=True))
        constants.update((name, graph.initializers[name]) for name in node.input if name in graph.initializers)
    return texts, constants
