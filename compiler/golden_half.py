"""A model with its weights rounded to half precision, to see what that alone changes."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np

from targets.kernels.storage import as_halves


def with_half_weights(model: Path, least: int, whole: Container[str] = ()) -> bytes:
    """The ONNX file `model` with every float32 constant of at least so many elements rounded to float16,
    but for those of the names `whole`.

    Raises ValueError where that is more than one message holds (2 GB).
    """
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load(model)
    graph = loaded.graph
    values = [
        (node.output[0], a.t) for node in graph.node if node.op_type == "Constant" for a in node.attribute
        if a.name == "value"
    ]  # fmt: skip
    for name, tensor in [*((t.name, t) for t in graph.initializer), *values]:
        if name not in whole and tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= least:
            rounded = as_halves(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return loaded.SerializeToString()
