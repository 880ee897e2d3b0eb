"""The TFLite file has the same integers as the quantized ONNX file: LiteRT's answers equal ONNX Runtime's."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgert.interface.peers import open_peer
from targets.errors import UnsupportedModel
from tests.benchmarks.networks import SHAPE, float_network, quantized_network

pytest.importorskip("ai_edge_litert")
from benchmarks.tflite_writer import write


def _answers(quantized: Path) -> tuple[np.ndarray, np.ndarray]:
    write(quantized, quantized.with_suffix(".tflite"))
    inputs = {"x": np.random.default_rng(5).normal(0, 1, SHAPE).astype(np.float32)}
    (want,) = open_peer("onnxruntime", quantized, inputs, 1)()
    (got,) = open_peer("litert", quantized.with_suffix(".tflite"), inputs, 1)()
    return got, want


def test_every_operator(tmp_path: Path) -> None:
    got, want = _answers(quantized_network(tmp_path / "q.onnx"))
    # the last layer's input becomes bytes again by a scale of the moment: half a step of 1/255 of its range, in sums
    # of 16 products with weights of about 0.3
    assert want.std() > 0.1
    np.testing.assert_allclose(got, want, atol=0.02 * np.abs(want).max())


def test_up_to_the_last_layer_to_the_bit(tmp_path: Path) -> None:
    model = onnx.load(quantized_network(tmp_path / "q.onnx"))
    made = {name: node for node in model.graph.node for name in node.output}
    last = next(made[node.input[0]] for node in model.graph.node if node.op_type == "Gemm")
    assert last.op_type == "DequantizeLinear"
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, (1, 16)))
    kept = onnx.utils.Extractor(model).extract_model(["x"], [last.output[0]])
    onnx.save(kept, tmp_path / "kept.onnx")
    got, want = _answers(tmp_path / "kept.onnx")
    assert len(np.unique(want)) > 4
    step = onnx.numpy_helper.to_array(next(t for t in kept.graph.initializer if t.name == last.input[1]))
    # equal but for the mean, whose ties TFLite and ONNX Runtime may round to different sides
    assert np.abs(np.rint((got - want) / step)).max() <= 1


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="Conv 'conv0' gives a float value"):
        write(float_network(tmp_path / "f.onnx"), tmp_path / "f.tflite")
    assert not (tmp_path / "f.tflite").exists()
