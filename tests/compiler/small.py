"""Small models made on the spot, and their answers from ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert.runner import Model

Shape = Sequence[int | str]


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Shape], outputs: Mapping[str, Shape | None],
    constants: Mapping[str, np.ndarray] | None = None, opset: int = 17, types: Mapping[str, int] | None = None,
) -> Path:  # fmt: skip
    """Writes a model of float32 values (others by `types`)."""
    kinds = types or {}
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def build(model: Path, **options: object) -> Model:
    """Compiles and loads."""
    out = model.with_suffix(".edge")
    edgert.compile(model, out, **options)  # type: ignore[arg-type]
    return edgert.load(out, threads=2)


def reference(model: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime's answers."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def same(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], terms: int = 1) -> None:
    """Equal within float32 rounding of sums of `terms` terms (each adds half a unit in the last place, 6e-8)."""
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name].shape == value.shape and got[name].dtype == value.dtype, name
        scale = float(np.abs(value).max()) if value.size else 1.0
        np.testing.assert_allclose(
            got[name], value, rtol=4e-6, atol=1e-7 * (terms + 4) * max(scale, 1e-30), err_msg=name
        )
