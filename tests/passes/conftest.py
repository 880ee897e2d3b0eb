"""Small graphs in ONNX's text form, run through single passes, and through the whole compiler against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import edgert
from compiler.debug import Dump
from compiler.frontend import load
from compiler.passes import Pass, dead_code, run_passes
from compiler.passes.edit import Edit
from compiler.verify import verify
from targets import get_target

TARGET = get_target("host")


class Graph:
    """A model from text: `inputs -> outputs` and a body of nodes; initializers by keyword."""

    def __init__(
        self, folder: Path, signature: str, body: str, opset: int = 20,
        dims: Mapping[str, tuple[int, int]] | None = None, **constants: np.ndarray | float,
    ) -> None:  # fmt: skip
        text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {signature.replace("->", "=>")} {{ {body} }}'
        self.proto = onnx.parser.parse_model(text)
        for name, value in constants.items():
            array = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
            self.proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.checker.check_model(self.proto, full_check=True)
        self.path = folder / "model.onnx"
        self.folder, self.dims = folder, dict(dims or {})
        onnx.save(self.proto, self.path)

    def after(self, *passes: Pass) -> list[str]:
        """The operators left after these passes, each followed by dead code removal, checked by the verifier."""
        edit = self.edit()
        for run in passes:
            run(edit, TARGET)
            edit.complete()
            dead_code.run(edit, TARGET)
            verify(edit.model, edit.facts, run.__module__)
        self.edited = edit
        return [f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in edit.graph]

    def edit(self) -> Edit:
        model, facts = load(self.path, {}, self.dims)
        assert not facts.problems, facts.problems
        return Edit(model, facts)

    def compiled(self) -> list[str]:
        """The operators of the whole graph after all passes."""
        edit = self.edit()
        run_passes(edit.model, edit.facts, TARGET, Dump(None))
        self.edited = edit
        nodes = [n for n in edit.graph if any(v.name not in edit.facts.constants for v in n.outputs)]
        return [f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes]

    def node(self, op: str) -> dict:
        """The attributes of the only node `op` after `after` or `compiled`."""
        (node,) = [n for n in self.edited.graph if n.op_type == op]
        return {name: attr.value for name, attr in node.attributes.items()}

    def same_as_reference(
        self, rtol: float = 1e-5, atol: float = 1e-6, seed: int = 0, feeds: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Compiles with all passes and compares with ONNX Runtime on random inputs.

        The default tolerance is some tens of float32 roundings (6e-8 each): the orders of summation differ.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(seed)
        given = dict(feeds or {})
        for port in session.get_inputs():
            if port.name not in given:
                dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}[port.type]
                shape = [d if isinstance(d, int) else self.dims[d][1] for d in port.shape]
                given[port.name] = (rng.standard_normal(shape) * 2).astype(dtype)
        wanted = session.run(None, given)
        edgert.compile(self.path, self.folder / "model.edge", dims=self.dims, golden=False)
        got = edgert.load(self.folder / "model.edge").run(given)
        for port, array in zip(session.get_outputs(), wanted, strict=True):
            np.testing.assert_allclose(got[port.name], array, rtol=rtol, atol=atol, err_msg=port.name)


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Graph]:
    return lambda *args, **kwargs: Graph(tmp_path, *args, **kwargs)
