"""How two runtimes' answers to one quantized model differ: in steps inside, as a share of the range at the end.

All codes inside are compared, as the outputs alone hide which kind of difference there is: rounding ties are one step
apart where they arise and seldom; what comes after a tie may then be apart by more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Over all codes inside the models: the largest difference in steps, and the share that differ at all; over the
    outputs: the largest difference as a share of the output's range."""

    steps: int
    differing: float
    relative: float

    def __str__(self) -> str:
        if not self.steps and not self.relative:
            return "equal"
        inside = (
            f"{self.steps} step{'s' * (self.steps != 1)} in {100 * self.differing:.2g} %" if self.steps else "equal"
        )
        return f"{inside}, outputs {self.relative:.0e}"


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
    """Compare values by name over all pairs of answers: `codes` as integers, the others as outputs."""
    most, apart, values, relative = 0, 0, 0, 0.0
    for ours, theirs in pairs:
        for name, want in theirs.items():
            off = np.abs(ours[name].astype(np.float64) - want)
            if name in codes:
                most = max(most, int(off.max()))
                apart += int(np.count_nonzero(off))
                values += off.size
            else:
                relative = max(relative, float(off.max() / (np.ptp(want) or 1.0)))
    return Agreement(most, apart / max(1, values), relative)


def cosine(pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> float:
    """The mean cosine between the first outputs of each pair."""
    found = []
    for ours, theirs in pairs:
        a, b = (np.ravel(next(iter(answer.values()))).astype(np.float64) for answer in (ours, theirs))
        found.append(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0)))
    return float(np.mean(found))
