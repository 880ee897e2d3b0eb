"""Cross-layer equalisation changes weights, not answers."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quant.channels import channel_statistics
from quant.contract import Options
from quant.equalize import equalize, equalize_weights
from quant.schemes import SCHEMES
from tests.quant.networks import constant, convolutions, images, model, node, run


def copy_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def unevenness(weights: np.ndarray) -> float:
    """Largest over smallest range of an output channel."""
    ranges = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    return float(ranges.max() / ranges.min())


def test_answers_stay_to_the_bit_and_ranges_come_together() -> None:
    before = convolutions()
    after = copy_of(before)
    done = equalize_weights(after)
    assert ("conv_c1", "conv_c2") in done.pairs
    assert ("conv_c3", "gemm_y") in done.pairs  # through MaxPool and Flatten
    assert "Clip" in done.skipped["conv_c2"]
    samples = images(4)
    # powers of two only: not one rounding differs
    np.testing.assert_array_equal(run(before, samples), run(after, samples))
    assert unevenness(constant(after, "w1")) < 0.5 * unevenness(constant(before, "w1"))


def test_ranges_of_a_pair_end_alike() -> None:
    proto = convolutions()
    equalize_weights(proto)
    one = np.abs(constant(proto, "w1")).reshape(8, -1).max(axis=1)
    two = np.abs(constant(proto, "w2")).reshape(8, -1).max(axis=1)
    # s is rounded to a power of two, so its square is off by at most a factor of 2
    assert np.all((one / two <= 2.001) & (one / two >= 1 / 2.001))


def test_with_calibration_the_values_in_between_come_together() -> None:
    before = convolutions()
    after, samples = copy_of(before), images(6)
    equalize(after, SCHEMES["int8"], samples, Options(equalize=True))  # type: ignore[arg-type]
    np.testing.assert_array_equal(run(before, images(3, seed=9)), run(after, images(3, seed=9)))
    ranges = [channel_statistics(proto, samples, {"r1": 1})["r1"].magnitude for proto in (before, after)]
    assert ranges[0].max() / ranges[0].min() > 8  # or there is nothing to show
    # the next layer is depthwise: all channels reach the same range, but for the power of two
    assert ranges[1].max() / ranges[1].min() < 2.001


def test_a_channel_that_calibration_hardly_saw_is_not_blown_up() -> None:
    before = convolutions()
    bias = constant(before, "b1").copy()
    bias[2] = -1e4  # below zero throughout: Relu gives nothing
    tensor = next(t for t in before.graph.initializer if t.name == "b1")
    tensor.CopyFrom(numpy_helper.from_array(bias, "b1"))
    after = copy_of(before)
    equalize(after, SCHEMES["int8"], images(3), Options(equalize=True))  # type: ignore[arg-type]
    assert constant(after, "b1")[2] == np.float32(-1e4)


@pytest.mark.parametrize("which", ["w1", "w2"])
def test_dead_channels(which: str) -> None:
    before = convolutions()
    weights = constant(before, which).copy()
    weights[3] = 0
    tensor = next(t for t in before.graph.initializer if t.name == which)
    tensor.CopyFrom(numpy_helper.from_array(weights, which))
    after = copy_of(before)
    equalize_weights(after)
    answers = run(after, images(2))
    assert np.isfinite(answers).all()
    np.testing.assert_array_equal(run(before, images(2)), answers)


def test_products_and_what_is_no_pair() -> None:
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.standard_normal((8, 12)) * np.logspace(-2, 2, 12),
        "b1": rng.standard_normal(12),
        "w2": rng.standard_normal((12, 12)),
        "w3": rng.standard_normal((12, 12)),
        "w4": rng.standard_normal((12, 4)),
    }
    nodes = [
        node("MatMul", ["x", "w1"], "m1"),
        node("Add", ["m1", "b1"], "a1"),
        node("Relu", ["a1"], "r1"),
        node("MatMul", ["r1", "w2"], "m2"),
        node("Sigmoid", ["m2"], "s2"),  # not homogeneous
        node("MatMul", ["s2", "w3"], "m3"),
        node("Add", ["m3", "s2"], "a3"),  # s2 goes to two places
        node("MatMul", ["a3", "w4"], "y"),
    ]
    before = model(nodes, weights, (5, 8))
    after = copy_of(before)
    done = equalize_weights(after)
    assert done.pairs == [("matmul_m1", "matmul_m2")]
    assert "Sigmoid" in done.skipped["matmul_m2"]
    assert not np.array_equal(constant(before, "b1"), constant(after, "b1"))
    samples = images(2, shape=(5, 8))
    np.testing.assert_array_equal(run(before, samples), run(after, samples))


def test_shared_weights_are_left_alone() -> None:
    weights = {"w": np.diag(np.logspace(-2, 2, 8))}
    proto = model([node("MatMul", ["x", "w"], "m"), node("MatMul", ["m", "w"], "y")], weights, (2, 8))
    done = equalize_weights(proto)
    assert done.pairs == []
    assert "several" in done.skipped["matmul_m"]
