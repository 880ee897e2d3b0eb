"""Integer inputs and outputs of a QDQ model: the same numbers, without the steps between them and floats."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgert
from edgert.errors import UsageError
from quant.io import Scale, quantized_io

QDQ = """<ir_version: 10, opset_import: ["" : 19]>
g (float[2, 8] x) => (float[16] y) <float sx = {0.05}, uint8 zx = {100}, float sy = {0.1}, uint8 zy = {3},
  int64[1] flat = {-1}> {
  f = Reshape (x, flat)
  q = QuantizeLinear (f, sx, zx)
  d = DequantizeLinear (q, sx, zx)
  r = Relu (d)
  p = QuantizeLinear (r, sy, zy)
  y = DequantizeLinear (p, sy, zy)
}"""
FLOAT = """<ir_version: 10, opset_import: ["" : 19]>
g (float[4] x) => (float[4] y, float[4] z) <float s = {0.05}, uint8 zero = {100}> {
  q = QuantizeLinear (x, s, zero)
  y = DequantizeLinear (q, s, zero)
  z = Add (x, y)
}"""


def saved(text: str, path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def test_integers_in_and_out_are_the_ones_that_were_inside(tmp_path: Path) -> None:
    path, out = saved(QDQ, tmp_path / "m.onnx"), tmp_path / "q.onnx"
    assert quantized_io(path, out) == {"x": Scale(pytest.approx(0.05), 100), "y": Scale(pytest.approx(0.1), 3)}
    x = np.random.default_rng(0).normal(0, 3, (2, 8)).astype(np.float32)
    codes = np.clip(np.rint(x / np.float32(0.05)) + 100, 0, 255).astype(np.uint8)
    found = answers(out, codes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal((found.astype(np.float32) - 3) * np.float32(0.1), answers(path, x))
    report = edgert.compile(path, tmp_path / "m.edge", io="quantized")
    tensor = report.manifest["inputs"][0]
    assert (tensor["dtype"], tensor["zero_point"]) == ("uint8", 100)
    with edgert.load(tmp_path / "m.edge") as model:
        np.testing.assert_array_equal(model.run({"x": codes})["y"], found)


def test_what_is_read_as_a_float_too_stays_one(tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    assert quantized_io(saved(FLOAT, tmp_path / "m.onnx"), out) == {}
    kinds = {v.type.tensor_type.elem_type for v in (*onnx.load(out).graph.input, *onnx.load(out).graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_other_words_for_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quantized"):
        edgert.compile(saved(QDQ, tmp_path / "m.onnx"), tmp_path / "m.edge", io="integers")
