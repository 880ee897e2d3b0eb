"""Run a model and see inside: tensors from the middle of the graph as further outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import onnx

from quant.model import open_session

if TYPE_CHECKING:
    import numpy as np


class Taps:
    """A session on `model` that gives `tensors` (names; the model's own outputs where None is given).

    It runs the graph as it is written, operator by operator: what ONNX Runtime would fuse into integer kernels differs
    between processors, and an observer shall not.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str] | None = None, optimise: bool = False) -> None:
        self.tensors = list(dict.fromkeys(v.name for v in model.graph.output) if tensors is None else tensors)
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        own = {value.name for value in model.graph.output}
        # ONNX Runtime infers the types of outputs that are given by name alone.
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.tensors if name not in own)
        self._session = open_session(tapped, optimise)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tensors of one sample, by name."""
        values: Sequence[np.ndarray] = self._session.run(self.tensors, feeds)
        return dict(zip(self.tensors, values, strict=True))
