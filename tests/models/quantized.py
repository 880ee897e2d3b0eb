"""Quantized models through the compiler and the runner, beside ONNX Runtime on the same file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgert
from edgert.interface.beside import reference
from targets import all_targets, host_features

SHARED = Path(__file__).parents[3] / "shared"
PRODUCTS = ("Conv", "Gemm", "MatMul", "Attention", "IntegerAttention")  # beginnings of the names of steps
TARGETS = sorted(
    name for name, target in all_targets().items() if target.family == "cpu" and host_features() >= set(target.features)
)


@dataclass(frozen=True)
class Run:
    """What came out of an artifact: the outputs of all runs, stacked along their first axis, and its manifest."""

    outputs: np.ndarray
    manifest: Mapping[str, Any]

    def products(self) -> list[tuple[str, str]]:
        """Operator and kernel of every convolution and matrix product."""
        steps = [s for s in self.manifest["steps"] if s.get("macs") and s["op"].startswith(PRODUCTS)]
        return [(step["op"], step["kernel"]) for step in steps]

    def on_floats(self) -> list[tuple[str, str]]:
        """Those products that do not run on integers."""
        return [(op, kernel) for op, kernel in self.products() if "Integer" not in op or "f32" in kernel]


def shared(name: str) -> Path:
    """A file of the material beside the repository; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} of the shared test material is absent")
    return path


def through_artifact(
    model: Path, inputs: Iterable[Mapping[str, np.ndarray]], output: str, folder: Path, **options: Any
) -> Run:
    """Compile `model` (options as `edgert.compile` has them) and run it on all inputs."""
    path = folder / f"{model.stem}.edge"
    report = edgert.compile(model, path, golden=False, **options)
    with edgert.load(path, threads=1) as loaded:
        return Run(np.concatenate([loaded.run(dict(feeds))[output].copy() for feeds in inputs]), report.manifest)


def through_onnxruntime(model: Path, inputs: Iterable[Mapping[str, np.ndarray]], output: str) -> np.ndarray:
    """The same of ONNX Runtime with its own integer kernels."""
    session = reference(model)
    return np.concatenate([session.run([output], dict(feeds))[0] for feeds in inputs])


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the rows of two matrices."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())
