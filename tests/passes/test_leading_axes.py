"""Reshapes of exported linear layers vanish: the activation and the residual sum fuse with the product."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edgert
from tests.compiler.small import same, save
from tests.split.nets import Net


def test_a_linear_layer_between_reshapes_fuses_with_what_follows(tmp_path: Path) -> None:
    n = Net(6)
    n.weights |= {"flat": np.array([-1, 32], np.int64), "wide": np.array([1, 9, 64], np.int64)}
    n.weights["back"] = np.array([1, 9, 32], np.int64)
    n.weights["flatter"] = np.array([9, 64], np.int64)
    weights = [n.weight(*shape) for shape in ((32, 64), (64,), (64, 32), (32,))]
    up = n.op("Gemm", n.op("Reshape", "x", "flat"), *weights[:2])
    up = n.op("Relu", n.op("Reshape", up, "wide"))
    down = n.op("Gemm", n.op("Reshape", up, "flatter"), *weights[2:])
    y = n.op("Add", "x", n.op("Reshape", down, "back"))
    model = save(tmp_path / "m.onnx", n.nodes, {"x": (1, 9, 32)}, {y: (1, 9, 32)}, n.weights)
    edgert.compile(model, tmp_path / "m.edge", golden=False)
    with edgert.load(tmp_path / "m.edge", threads=1) as loaded:
        assert [step["op"] for step in loaded.manifest["steps"]] == ["Gemm", "Gemm"]
        x = np.random.default_rng(6).standard_normal((1, 9, 32)).astype(np.float32)
        a, b, c, d = (n.weights[name].astype(np.float64) for name in weights)
        wanted = x + np.maximum(x @ a + b, 0) @ c + d
        same(loaded.run({"x": x}), {y: wanted.astype(np.float32)}, terms=64)
