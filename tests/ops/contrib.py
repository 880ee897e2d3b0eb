"""Compares one operator of domain com.microsoft with ONNX Runtime, and counts the answers one step away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from .reference import answers

MS = "com.microsoft"
TYPES = {np.dtype(t): helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in ("float32", "uint8", "int8", "int32")}


def contrib_model(
    op: str, inputs: Sequence[np.ndarray | None], dtypes: Sequence[str], given: Sequence[int] = (0,), **attrs: Any
) -> onnx.ModelProto:
    """A model of one node with outputs of `dtypes`; inputs at positions `given` are fed, the others initializers."""
    names = ["" if v is None else f"i{k}" for k, v in enumerate(inputs)]
    results = [f"o{k}" for k in range(len(dtypes))]
    node = helper.make_node(op, names, results, domain=MS, **attrs)
    fed = [helper.make_tensor_value_info(names[k], TYPES[inputs[k].dtype], inputs[k].shape) for k in given]
    kept = [numpy_helper.from_array(v, names[k]) for k, v in enumerate(inputs) if v is not None and k not in given]
    made = [
        helper.make_tensor_value_info(r, TYPES[np.dtype(d)], None) for r, d in zip(results, dtypes, strict=True)
    ]  # fmt: skip
    graph = helper.make_graph([node], op, fed, made, kept)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def session(model: onnx.ModelProto, optimised: bool = False) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread: with more, some kernels split their ranges."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def compare(got: np.ndarray, wanted: np.ndarray, tolerance: float, ties: float) -> int:
    """Floats: within `tolerance` of the largest. Integers: at most one step apart, `ties` of them at most.

    Gives the number of answers one step away.
    """
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1.0, float(np.abs(wanted).max(initial=0))))
        return 0
    apart = np.abs(got.astype(np.int32) - wanted.astype(np.int32))
    assert apart.max(initial=0) <= 1, f"{int((apart > 1).sum())} of {apart.size} are {apart.max()} steps apart"
    count = int(apart.sum())
    assert count <= ties * apart.size, f"{count} of {apart.size} are one step apart"
    return count


def check_contrib(
    folder: Path, op: str, inputs: Sequence[np.ndarray | None], dtypes: Sequence[str], given: Sequence[int] = (0,),
    tolerance: float = 2e-5, ties: float = 0.01, **attrs: Any,
) -> int:  # fmt: skip
    """Runs the node here and in ONNX Runtime; gives how many integers are one step apart (see `compare`)."""
    model = contrib_model(op, inputs, dtypes, given, **attrs)
    feeds = {f"i{k}": inputs[k] for k in given}
    wanted = session(model).run(None, feeds)
    got = answers(model, feeds, folder)
    return sum(compare(got[f"o{k}"], value, tolerance, ties) for k, value in enumerate(wanted))
