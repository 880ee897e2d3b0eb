"""Inputs and right answers that travel with an artifact, so that any device can check itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4  # of the output's range: float32 sums of some thousand terms in another order
SEED = 20250101


def make_inputs(manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Seeded inputs that fit the manifest: floats in [0, 1), integers 0 and 1 (valid as masks, flags and indices).

    A symbolic dimension takes 64, or the nearest its bounds allow.
    """
    rng = np.random.default_rng(SEED)
    sizes = [min(max(64, d["min"]), d["max"]) for d in manifest["dims"]]
    feeds = {}
    for port in manifest["inputs"]:
        shape = tuple(d if isinstance(d, int) else sizes[d["slot"]] for d in port["shape"])
        if port["dtype"] in ("float16", "float32", "float64"):
            value = rng.random(shape).astype(port["dtype"])
        elif port["dtype"] == "bool":
            value = rng.random(shape) < 0.5
        elif port["dtype"].startswith(("int", "uint")):
            value = np.asarray(rng.integers(0, 2, shape)).astype(port["dtype"])
            value[..., :1] = 1  # a mask of nothing but zeros has no answer
        else:
            import ml_dtypes

            value = rng.random(shape).astype(getattr(ml_dtypes, port["dtype"]))
        feeds[port["name"]] = value
    return feeds


def make(model: Path, manifest: Mapping[str, Any], notes: list[str]) -> tuple[dict, dict]:
    """Golden inputs and ONNX Runtime's outputs for them; none, with a note, where it cannot run the model."""
    import onnxruntime as ort

    feeds = make_inputs(manifest)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        wanted = {i.name for i in session.get_inputs()}
        names = [o["name"] for o in manifest["outputs"]]
        answers = session.run(names, {k: v for k, v in feeds.items() if k in wanted})
    except Exception as error:  # noqa: BLE001  ONNX Runtime raises many kinds
        notes.append(f"no golden answers: ONNX Runtime does not run this model ({str(error).splitlines()[0][:160]})")
        return {}, {}
    return feeds, dict(zip(names, answers, strict=True))
