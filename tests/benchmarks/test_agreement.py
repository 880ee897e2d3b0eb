"""How differences between two runtimes' codes and outputs are told."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from benchmarks.agreement import Agreement, agree, cosine, tap

MODEL = """
<ir_version: 8, opset_import: ["": 13]>
g (float[4] x) => (float[4] y)
<float s = {0.5}, uint8 z = {3}>
{
  q = QuantizeLinear(x, s, z)
  y = DequantizeLinear(q, s, z)
}
"""


def test_a_tie_is_one_step_where_it_arises_whatever_comes_after() -> None:
    want = {"a": np.uint8([1, 2, 3, 4]), "b": np.uint8([9, 9, 9, 9]), "y": np.float32([0, 1, 2, 4])}
    ours = {"a": np.uint8([1, 2, 3, 5]), "b": np.uint8([9, 9, 2, 9]), "y": np.float32([0, 1, 2, 3])}
    found = agree([(ours, want)], ["a", "b"])
    assert found == Agreement(1, 2 / 8, 0.25)
    assert str(found) == "1 step, 25 % of codes; outputs 2e-01"
    # in the other order the first difference is no tie
    assert agree([(ours, want)], ["b", "a"]).steps == 7
    # codes are unsigned: the difference must not wrap round
    assert agree([(want, ours)], ["b", "a"]).steps == 7


def test_equal_answers() -> None:
    same = {"a": np.uint8([1]), "y": np.float32([0.5])}
    assert str(agree([(same, same)], ["a"])) == "equal"


def test_the_worst_sample_counts() -> None:
    good, bad = {"a": np.uint8([1])}, {"a": np.uint8([5])}
    assert agree([(good, good), (good, bad)], ["a"]).steps == 4


def test_taps_are_the_quantized_activations(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "m.onnx")
    assert tap(tmp_path / "m.onnx", tmp_path / "t.onnx") == ["q"]
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(tmp_path / "t.onnx")
    y, q = session.run(None, {"x": np.float32([0, 0.5, 1, -9])})
    np.testing.assert_array_equal(q, [3, 4, 5, 0])
    np.testing.assert_array_equal(y, np.float32([0, 0.5, 1, -1.5]))


def test_cosine() -> None:
    a, b = {"y": np.float32([[1, 0]])}, {"y": np.float32([[1, 1]])}
    assert cosine([(a, a)]) == 1
    assert cosine([(a, b)]) == pytest.approx(0.5**0.5)
