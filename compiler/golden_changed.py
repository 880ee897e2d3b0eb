"""Models changed as rounding changes them, to see what that alone does to their answers."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from targets.kernels.storage import as_halves

NUDGE = 1e-6  # of a value: float32 sums of some hundred terms in another order


def with_half_weights(model: Path, least: int, whole: Container[str] = ()) -> bytes:
    """The ONNX file `model` with every float32 constant of at least so many elements rounded to float16,
    but for those of the names `whole`.

    Raises ValueError where that is more than one message holds (2 GB).
    """
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load(model)
    for name, tensor in float_constants(loaded):
        if name not in whole and np.prod(tensor.dims) >= least:
            rounded = as_halves(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return loaded.SerializeToString()


def float_constants(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and tensors of all float32 constants of an ONNX model: initializers and what `Constant` nodes give."""
    import onnx

    graph = model.graph
    constants = [node for node in graph.node if node.op_type == "Constant"]
    values = [(node.output[0], a.t) for node in constants for a in node.attribute if a.name == "value"]
    for name, tensor in [*((t.name, t) for t in graph.initializer), *values]:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield name, tensor


def nudged(model: Path, times: int) -> Iterator[bytes]:
    """The ONNX file `model` so many times, its float32 vectors (biases, gains, scales) off by up to NUDGE of each.

    Raises ValueError where that is more than one message holds (2 GB).
    """
    import onnx
    from onnx import numpy_helper

    loaded = onnx.load(model)
    vectors = [t for t in loaded.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) < 2]
    plain = [numpy_helper.to_array(t) for t in vectors]
    for seed in range(times):
        rng = np.random.default_rng(seed)
        for tensor, values in zip(vectors, plain, strict=True):
            off = values * (1 + rng.uniform(-NUDGE, NUDGE, values.shape))
            tensor.CopyFrom(numpy_helper.from_array(off.astype(np.float32), tensor.name))
        yield loaded.SerializeToString()
