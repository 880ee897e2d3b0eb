"""How differences between two runtimes' codes and outputs are told, and a small model run beside ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from benchmarks.int8 import cosine
from edgert.interface.agreement import Agreement, agree, tap
from edgert.interface.beside import alike, beside_onnxruntime
from quant.quantize import quantize
from tests.quant.networks import convolutions, images, model, node

NONE: frozenset[str] = frozenset()
MODEL = """
<ir_version: 8, opset_import: ["": 13]>
g (float[4] x) => (float[4] y)
<float s = {0.5}, uint8 z = {3}, float[4] c = {9, 9, 9, 9}>
{
  q = QuantizeLinear(x, s, z)
  f = DequantizeLinear(q, s, z)
  h = Add(f, f)
  r = QuantizeLinear(h, s, z)
  d = DequantizeLinear(r, s, z)
  w = QuantizeLinear(c, s, z)
  v = DequantizeLinear(w, s, z)
  y = Add(d, v)
}
"""


def test_a_tie_is_one_step_where_it_arises_whatever_comes_after() -> None:
    want = {"a": np.uint8([1, 2, 3, 4]), "b": np.uint8([9, 9, 9, 9]), "y": np.float32([0, 1, 2, 4])}
    ours = {"a": np.uint8([1, 2, 3, 5]), "b": np.uint8([9, 9, 2, 9]), "y": np.float32([0, 1, 2, 3])}
    found = agree([(ours, want)], {"a": NONE, "b": frozenset("a")})
    assert found == Agreement(1, 1, 4, 2 / 8, 1.0, 0.25, 1)
    assert str(found) == "1 step, 25 % of codes; outputs 2e-01"
    told = "of 4 codes computed from equal ones 1 differ by at most 1 step"
    assert found.told() == f"{told}; outputs differ by at most 1 (2.5e-01 of the range)"
    # where b does not depend on a, its own difference is no tie
    assert agree([(ours, want)], {"a": NONE, "b": NONE}).steps == 7
    # codes are unsigned: the difference must not wrap round
    assert agree([(want, ours)], {"b": NONE}).steps == 7


def test_codes_count_as_soon_as_those_before_agree_again() -> None:
    want = {"a": np.uint8([1]), "b": np.uint8([2]), "c": np.uint8([3])}
    ours = {"a": np.uint8([2]), "b": np.uint8([2]), "c": np.uint8([5])}
    assert agree([(ours, want)], {"a": NONE, "b": frozenset("a"), "c": frozenset("b")}).steps == 2
    assert agree([(ours, want)], {"a": NONE, "b": frozenset("a"), "c": frozenset("ab")}).steps == 1


def test_equal_answers() -> None:
    same = {"a": np.uint8([1]), "y": np.float32([0.5])}
    found = agree([(same, same), (same, same)], {"a": NONE})
    assert str(found) == "equal" and found.samples == 2
    assert found.told() == "of 2 codes computed from equal ones 0 differ; outputs are equal"
    assert agree([(same, same)], {}).told() == "outputs are equal"


def test_the_worst_sample_counts() -> None:
    good, bad = {"a": np.uint8([1])}, {"a": np.uint8([5])}
    assert agree([(good, good), (good, bad)], {"a": NONE}).steps == 4


def test_taps_are_the_quantized_activations(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "m.onnx")
    assert tap(tmp_path / "m.onnx", tmp_path / "t.onnx") == {"q": NONE, "r": frozenset("q"), "w": NONE}
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(tmp_path / "t.onnx")
    y, q, r, _ = session.run(None, {"x": np.float32([0, 0.5, 1, -9])})
    np.testing.assert_array_equal(q, [3, 4, 5, 0])
    np.testing.assert_array_equal(r, [3, 5, 7, 0])
    np.testing.assert_array_equal(y, np.float32([9, 10, 11, 7.5]))


def test_integers_are_equal_in_artifact_and_onnxruntime(tmp_path: Path) -> None:
    samples = images(6)
    quantize(convolutions(), tmp_path / "q.onnx", "int8", samples)
    found = beside_onnxruntime(tmp_path / "q.onnx", alike(samples))
    assert found.samples == 4
    assert found.codes >= 4 * (8 * 8 * 8 * 2 + 6 * 4 * 4)
    assert found.steps <= 1
    assert found.ties <= 1e-3 * found.codes
    assert list(tmp_path.iterdir()) == [tmp_path / "q.onnx"]


def test_samples_of_several_lengths(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    proto = model([node("MatMul", ["x", "w"], "y")], {"w": rng.standard_normal((32, 16))}, (1, 1, 32))
    for value, name in ((proto.graph.input[0], "n"), (proto.graph.output[0], "n")):
        value.type.tensor_type.shape.dim[1].dim_param = name
    quantize(proto, tmp_path / "q.onnx", "int8-dynamic")
    samples = [{"x": rng.standard_normal((1, n, 32)).astype(np.float32)} for n in (3, 7, 5)]
    found = beside_onnxruntime(tmp_path / "q.onnx", alike(samples))
    assert found.samples == 3 and found.steps <= 1
    assert found.relative < 1e-5  # the same integers; their float32 scaling may be rounded in another order
    other = [*samples, {"x": samples[0]["x"][0]}]  # of another rank: not for the same artifact
    assert len(alike(other, 4)) == 3


def test_cosine() -> None:
    a, b = {"y": np.float32([[1, 0]])}, {"y": np.float32([[1, 1]])}
    assert cosine([(a, a)]) == 1
    assert cosine([(a, b)]) == pytest.approx(0.5**0.5)
