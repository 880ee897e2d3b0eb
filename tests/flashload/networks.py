"""Small networks whose weights are large enough to be streamed, compiled once a process."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert import artifact, coding
from flashload.named_profiles import named
from tests.decoder.small import CASES, write
from tests.llm.made import byte_metadata
from tests.llm.small_models import VOCAB

WIDTH, TALL, LAYERS = 256, 1100, 3


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgert-stream-")


@cache
def mlp() -> Path:
    """x [batch, 256] through three pairs of dense layers, 256 to 1100 to 256: an artifact."""
    rng = np.random.default_rng(0)
    nodes, constants, at = [], [], "x"
    for i in range(LAYERS):
        for name, shape in ((f"up{i}", (WIDTH, TALL)), (f"down{i}", (TALL, WIDTH))):
            values = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
            constants.append(numpy_helper.from_array(values, name))
            nodes += [helper.make_node("MatMul", [at, name], [f"{name}.out"])]
            nodes += [helper.make_node("Tanh", [f"{name}.out"], [f"{name}.act"])]
            at = f"{name}.act"
    nodes += [helper.make_node("Identity", [at], ["y"])]
    graph = helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        constants,
    )  # fmt: skip
    folder = Path(_folder().name)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "mlp.onnx")
    edgert.compile(folder / "mlp.onnx", folder / "mlp.edge", dims={"batch": (1, 40)}, golden=False)
    return folder / "mlp.edge"


def coded_mlp(folder: Path) -> Path:
    """The artifact of `mlp()`, coded as for an SD card, in `folder`."""
    plain, path = artifact.Artifact.open(mlp()), folder / "mlp.edge"
    manifest = {k: v for k, v in plain.manifest.items() if k != "members"}
    artifact.write(path, manifest, plain.code, plain.weights, coder=coding.coder(named("sd-uhs-1")))
    return path


@cache
def decoder() -> Path:
    """A llama of two layers whose table of embeddings is its output head: an artifact."""
    folder = Path(_folder().name)
    family = replace(CASES["llama"], width=512, heads=8, kv_heads=2, head=32, rotated=32, ffn=512, vocab=VOCAB)
    write(folder / "llama.gguf", family, keys=byte_metadata())
    edgert.compile(folder / "llama.gguf", folder / "llama.edge")
    return folder / "llama.edge"
