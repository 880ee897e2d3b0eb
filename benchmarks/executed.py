"""Whether a runtime really computes in int8: how many of a model's products it runs on integers, and in which unit."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ORT_INTEGER = {
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QAttention",
}  # fmt: skip
ORT_FLOAT = {
    "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Attention",
    "MultiHeadAttention",
}  # fmt: skip
OPENVINO_PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "ScaledDotProductAttention", "MHA"}
EDGERT_PRODUCTS = ("Conv", "Gemm", "MatMul", "Attention")  # beginnings of operators' names


@dataclass(frozen=True)
class Executed:
    """Products (convolutions and matrix products) in all, those on integers, and those on integers in AMX tiles.

    `tiles` is None where the runtime does not tell.
    """

    products: int
    integer: int
    tiles: int | None = None

    def __str__(self) -> str:
        return f"{self.integer}/{self.products}"


def edgert_executed(manifest: Mapping[str, Any]) -> Executed:
    """From an artifact's steps."""
    steps = [step for step in manifest["steps"] if step.get("macs") and step["op"].startswith(EDGERT_PRODUCTS)]
    return Executed(len(steps), sum("Integer" in step["op"] for step in steps))


def onnxruntime_executed(model: Path) -> Executed:
    """From the graph that ONNX Runtime makes of `model`."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    integer = sum(op in ORT_INTEGER for op in ops)
    return Executed(integer + sum(op in ORT_FLOAT for op in ops), integer)


def openvino_executed(model: Path, inputs: Mapping[str, np.ndarray]) -> Executed:
    """From the primitives that OpenVINO's CPU plug-in chose, as its runtime model names them."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(model))
    graph.reshape({name: list(array.shape) for name, array in inputs.items()})
    compiled = core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    kinds = []
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) in OPENVINO_PRODUCTS:
            kinds.append(info["primitiveType"].astype(str).lower())
    integer = [kind for kind in kinds if kind.endswith(("_i8", "_u8"))]
    return Executed(len(kinds), len(integer), sum("amx" in kind for kind in integer))
