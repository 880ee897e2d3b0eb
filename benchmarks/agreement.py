"""How two runtimes' answers to one quantized model differ: in steps inside, as a share of the range at the end.

All codes inside are compared, as outputs alone hide which kind of difference there is: a rounding tie is one step where
it arises, and what comes after it may be apart by more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """How codes inside the models and their outputs differ.

    `steps`: the most by which codes differ in the first place where any do, for each sample; 1 means rounding ties.
    `differing`: the share of all codes that differ there and after it. `relative`: the largest difference of outputs,
    as a share of the output's range.
    """

    steps: int
    differing: float
    relative: float

    def __str__(self) -> str:
        if not self.steps and not self.relative:
            return "equal"
        share = f"{100 * self.differing:.2g} % of codes"
        inside = f"{self.steps} step{'s' * (self.steps != 1)}, {share}" if self.steps else "equal codes"
        return f"{inside}; outputs {self.relative:.0e}"


def tap(model: Path, out: Path) -> list[str]:
    """Write `model` with every quantized activation as an output more, and give their names."""
    import onnx

    proto = onnx.shape_inference.infer_shapes(onnx.load(model))
    known = {value.name: value for value in proto.graph.value_info}
    names = [
        node.output[0]
        for node in proto.graph.node
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") and node.output[0] in known
    ]
    proto.graph.output.extend(known[name] for name in names)
    onnx.save(proto, out)
    return names


def agree(pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]], codes: list[str]) -> Agreement:
    """Compare values by name over all pairs: `codes`, in the model's order, as integers, the others as outputs."""
    most, apart, values, relative = 0, 0, 0, 0.0
    for ours, theirs in pairs:
        first = 0
        for name in codes:
            off = np.abs(ours[name].astype(np.int64) - theirs[name])
            first = first or int(off.max())
            apart += int(np.count_nonzero(off))
            values += off.size
        most = max(most, first)
        for name in theirs.keys() - set(codes):
            off = np.abs(ours[name].astype(np.float64) - theirs[name])
            relative = max(relative, float(off.max() / (np.ptp(theirs[name]) or 1.0)))
    return Agreement(most, apart / max(1, values), relative)


def cosine(pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> float:
    """The mean cosine between the first outputs of each pair."""
    found = []
    for ours, theirs in pairs:
        a, b = (np.ravel(next(iter(answer.values()))).astype(np.float64) for answer in (ours, theirs))
        found.append(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0)))
    return float(np.mean(found))
