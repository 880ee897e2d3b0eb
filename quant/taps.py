"""Run a model and see inside: tensors from the middle of the graph as further outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import onnx

from quant.model import open_session, session_options

if TYPE_CHECKING:
    import numpy as np

LARGE = 1 << 30  # models above go through a file, without optimisations


class Taps:
    """A session on `model` that gives `tensors` (names; the model's own outputs where None is given).

    QuantizeLinear and DequantizeLinear run as they are written, in float32 arithmetic between them: the integer kernels
    that ONNX Runtime would fuse them into differ between processors (some saturate), and an observer shall not.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str] | None = None) -> None:
        import onnxruntime

        own = [value.name for value in model.graph.output]
        self.tensors = list(dict.fromkeys(own if tensors is None else tensors))
        tapped = model
        if extra := [name for name in self.tensors if name not in own]:
            tapped = onnx.ModelProto()
            tapped.CopyFrom(model)
            # ONNX Runtime infers the types of outputs that are given by name alone.
            tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
        if tapped.ByteSize() >= LARGE:
            self._session = open_session(tapped, optimise=False)
            return
        options = session_options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tensors of one sample, by name."""
        # ONNX Runtime takes an empty list for all outputs.
        values = self._session.run(self.tensors, feeds) if self.tensors else []
        return dict(zip(self.tensors, values, strict=True))
