"""How the answers of two runtimes to one quantized model differ: in steps inside, as a share of the range at the end.

All codes inside are compared, as outputs alone hide which kind of difference there is: a rounding tie is one step where
it arises, and what comes after it may be apart by more. So codes count apart that were computed from equal ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

Answer = Mapping[str, np.ndarray]
Sources = Mapping[str, frozenset[str]]  # by quantized activation: those nearest before it that it is computed from
QUANTIZE = ("QuantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Agreement:
    """How codes inside the models and their outputs differ, over all samples.

    `steps`: the most by which codes differ that were computed from equal ones; 1 means rounding ties. `ties`: how many
    of those differ at all, of `codes`. `differing`: the share of all codes that differ, there and after it. `largest`:
    the largest difference of outputs, and `relative` as a share of the output's range. `samples`: how many were run.
    """

    steps: int
    ties: int
    codes: int
    differing: float
    largest: float
    relative: float
    samples: int

    def __str__(self) -> str:
        if not self.steps and not self.relative:
            return "equal"
        share = f"{100 * self.differing:.2g} % of codes"
        inside = f"{self.steps} step{'s' * (self.steps != 1)}, {share}" if self.steps else "equal codes"
        return f"{inside}; outputs {self.relative:.0e}"

    def told(self) -> str:
        """A sentence for people: codes where they arise, then outputs."""
        steps = f"by at most {self.steps} step{'s' * (self.steps != 1)}" if self.ties else ""
        inside = f"of {self.codes:,} codes computed from equal ones {self.ties:,} differ {steps}".rstrip()
        outside = "outputs are equal"
        if self.largest:
            outside = f"outputs differ by at most {self.largest:.2g} ({self.relative:.1e} of the range)"
        return f"{inside}; {outside}" if self.codes else outside


def tap(model: Path, out: Path) -> Sources:
    """Write `model` with every quantized activation as an output more; give those, in the model's order."""
    import onnx

    from quant.model import save

    proto = onnx.load(str(model))
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    own = {value.name for value in proto.graph.output}
    sources = _sources(proto.graph, known.keys() - own)
    proto.graph.output.extend(known[name] for name in sources)
    save(proto, out)
    return sources


def _sources(graph: "onnx.GraphProto", taken: Iterable[str]) -> dict[str, frozenset[str]]:
    names, found = set(taken), {}
    before: dict[str, frozenset[str]] = {}
    for node in graph.node:
        nearest = frozenset[str]().union(*(before.get(name, frozenset()) for name in _read_by(node)))
        if node.op_type in QUANTIZE and node.output[0] in names:
            found[node.output[0]] = nearest
            nearest = frozenset([node.output[0]])
        before.update(dict.fromkeys(node.output, nearest))
    return found


def _read_by(node: "onnx.NodeProto") -> list[str]:
    """All values that a node reads, those its branches and loops take from outside included."""
    graphs = [g for attribute in node.attribute for g in (*attribute.graphs, attribute.g)]
    return [*node.input, *(name for graph in graphs for inner in graph.node for name in _read_by(inner))]


def agree(pairs: Iterable[tuple[Answer, Answer]], sources: Sources) -> Agreement:
    """Compare values by name over all pairs: the codes in `sources` as integers, all others as outputs."""
    steps, ties, codes, apart, values, samples, largest, relative = 0, 0, 0, 0, 0, 0, 0.0, 0.0
    for ours, theirs in pairs:
        samples += 1
        equal: set[str] = set()
        for name, before in sources.items():
            off = np.abs(ours[name].astype(np.int64) - theirs[name].astype(np.int64))
            count = int(np.count_nonzero(off))
            apart, values = apart + count, values + off.size
            if before <= equal:
                ties, codes = ties + count, codes + off.size
                steps = max(steps, int(off.max(initial=0)))
            if not count:
                equal.add(name)
        for name in theirs.keys() - sources.keys():
            want = theirs[name].astype(np.float64)
            difference = float(np.abs(ours[name].astype(np.float64) - want).max(initial=0.0))
            largest = max(largest, difference)
            relative = max(relative, difference / (np.ptp(want) or 1.0) if want.size else 0.0)
    return Agreement(steps, ties, codes, apart / max(1, values), largest, relative, samples)
