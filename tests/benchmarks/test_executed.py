"""What is told of runtimes: which products they run on integers."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.executed import edgert_executed, onnxruntime_executed, openvino_executed
from tests.benchmarks.networks import float_network, quantized_network


def test_onnxruntime_runs_quantized_layers_on_integers_and_others_not(tmp_path: Path) -> None:
    assert str(onnxruntime_executed(quantized_network(tmp_path / "q.onnx"))) == "4/4"
    assert str(onnxruntime_executed(float_network(tmp_path / "f.onnx"))) == "0/4"


def test_openvino_likewise(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    inputs = {"x": np.zeros((1, 8, 13, 13), np.float32)}
    plain = openvino_executed(float_network(tmp_path / "f.onnx"), inputs)
    assert (plain.products, plain.integer) == (4, 0)
    # which of the small layers it runs on integers is its choice, and differs between CPUs
    quantized = openvino_executed(quantized_network(tmp_path / "q.onnx"), inputs)
    assert quantized.products == 4
    assert quantized.integer > 0


def test_edgerts_steps_that_are_no_products_do_not_count() -> None:
    steps = [
        {"op": "Conv2dInteger", "macs": 5},
        {"op": "GemmInteger", "macs": 5},
        {"op": "Conv2dInteger", "macs": 0},  # the padding before a convolution
        {"op": "MatMul", "macs": 5},
        {"op": "SumPool2d", "macs": 5},
        {"op": "Requantize"},
    ]
    assert str(edgert_executed({"steps": steps})) == "2/3"
