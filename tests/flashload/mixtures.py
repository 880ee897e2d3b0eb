"""A small seeded mixture of experts: layers whose router takes two of sixteen."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert import runner
from edgert.artifact import Artifact, write
from edgert.budget import OpenSource
from flashload.plan import Plan

WIDTH, NEURONS, EXPERTS, BEST, LAYERS = 64, 96, 16, 2, 3
EXPERT_BYTES = 4 * NEURONS * 3 * WIDTH


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgert-moe-")


def weights(layer: int, gated: bool) -> dict[str, np.ndarray]:
    """router [E, K], w1 [E, F, K], w2 [E, K, F], w3 [E, F, K] if gated."""
    rng = np.random.default_rng(layer)
    made = {"router": rng.normal(size=(EXPERTS, WIDTH)) * 0.3}
    for name, shape in (("w1", (NEURONS, WIDTH)), ("w2", (WIDTH, NEURONS)), ("w3", (NEURONS, WIDTH))):
        made[name] = rng.normal(size=(EXPERTS, *shape)) * shape[1] ** -0.5
    return {name: w.astype(np.float32) for name, w in made.items() if gated or name != "w3"}


def model(gated: bool, activation: str, normalize: int, layers: int = LAYERS) -> onnx.ModelProto:
    """x [tokens, 64] -> y, with residuals."""
    nodes, constants, at = [], [], "x"
    for i in range(layers):
        w = weights(i, gated)
        constants += [numpy_helper.from_array(np.ascontiguousarray(w["router"].T), f"router{i}")]
        constants += [numpy_helper.from_array(w[name], f"{name}.{i}") for name in w if name != "router"]
        nodes.append(helper.make_node("MatMul", [at, f"router{i}"], [f"logits{i}"]))
        inputs = [at, f"logits{i}", f"w1.{i}", "", f"w2.{i}", "", *([f"w3.{i}", ""] if gated else [])]
        nodes.append(helper.make_node(
            "MoE", inputs, [f"mixed{i}"], f"moe{i}", domain="com.microsoft", k=BEST, activation_type=activation,
            normalize_routing_weights=normalize,
        ))  # fmt: skip
        nodes.append(helper.make_node("Add", [at, f"mixed{i}"], [f"x{i}"]))
        at = f"x{i}"
    nodes.append(helper.make_node("Identity", [at], ["y"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "moe", ports[:1], ports[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@cache
def mixture(gated: bool = True, activation: str = "silu", normalize: int = 1, layers: int = LAYERS) -> Path:
    """An artifact, and the model beside it."""
    path = Path(_folder().name) / f"{gated}-{activation}-{normalize}-{layers}.edge"
    onnx.save(model(gated, activation, normalize, layers), path.with_suffix(".onnx"))
    edgert.compile(path.with_suffix(".onnx"), path, dims={"tokens": (1, 8)}, golden=False)
    return path


def blind(folder: Path) -> Path:
    """The mixture in `folder`, without what its layers tell of the next one's experts."""
    known, path = Artifact.open(mixture()), folder / "moe.edge"
    manifest: dict[str, Any] = {k: copy.deepcopy(v) for k, v in known.manifest.items() if k != "members"}
    assert sum("ahead" in table for table in manifest["stream"]["lookups"]) == LAYERS - 1
    for table in manifest["stream"]["lookups"]:
        table.pop("ahead", None)
    write(path, manifest, known.code, known.weights)
    return path


def opened(kept: int, path: Path | None = None, source: OpenSource | None = None) -> runner.Model:
    """The mixture streamed, with room for `kept` experts of each layer."""
    model = runner.load(path or mixture(), 1, dram="64G", source=source)
    memory, stream = model.memory, model.artifact.spec.stream
    assert memory is not None
    assert stream is not None
    size = stream.streamed_bytes + (kept - 1) * LAYERS * (EXPERT_BYTES + 4)
    made = Plan(0, {"process": 0}, size, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "")
    memory._made = lambda: made  # type: ignore[method-assign]
    return model


def walk(tokens: int) -> np.ndarray:
    """Vectors that change slowly, as those of a text's tokens do: float32 [tokens, WIDTH]."""
    rng = np.random.default_rng(5)
    steps = [rng.normal(size=WIDTH)]
    while len(steps) < tokens:
        steps.append(0.8 * steps[-1] + 0.6 * rng.normal(size=WIDTH))
    return np.array(steps, np.float32)


def reference(x: np.ndarray, layers: int = LAYERS) -> np.ndarray:
    """The gated model with SiLU and normalized shares, in float64."""
    y = x.astype(np.float64)
    for i in range(layers):
        w = weights(i, True)
        logits, out = y @ w["router"].T, y.copy()
        for t, row in enumerate(logits):
            best = np.argsort(-row)[:BEST]
            shares = np.exp(row[best] - row.max())
            for e, share in zip(best, shares / shares.sum(), strict=True):
                gate = w["w1"][e] @ y[t]
                out[t] += share * (w["w2"][e] @ (gate / (1 + np.exp(-gate)) * (w["w3"][e] @ y[t])))
        y = out
    return y
