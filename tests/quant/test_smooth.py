"""SmoothQuant: the same answers, smoother activations."""

import numpy as np
import onnx
import pytest

from quant.contract import Options
from quant.data import open_samples
from quant.model import prepare
from quant.schemes import SCHEMES
from quant.smooth import smooth
from targets.errors import UsageError
from tests.quant.networks import model as network
from tests.quant.networks import node
from tests.quant.products import constants, off, ops, quantized, run

RNG = np.random.default_rng(6)
LOUD = np.where(np.arange(64) % 20 == 0, 30, 1).astype(np.float32)


def normal(residual: bool, spelled_out: bool) -> onnx.ModelProto:
    """Layer normalisation with loud features, two products of it, and perhaps itself added to their sum."""
    weights = {"g": LOUD, "b": RNG.standard_normal(64), "v": RNG.standard_normal((64, 64)) / 8}
    weights["w"] = RNG.standard_normal((64, 64)) / 8
    first = [node("LayerNormalization", ["x", "g", "b"], "n", axis=-1)]
    if spelled_out:
        first = [node("Mul", ["x", "g"], "m"), node("Add", ["m", "b"], "n")]
    last = [node("Add", ["p", "q"], "s" if residual else "y")] + ([node("Add", ["s", "n"], "y")] if residual else [])
    nodes = [*first, node("MatMul", ["n", "v"], "p"), node("MatMul", ["n", "w"], "q"), *last]
    return network(nodes, weights, (8, 64))


def smoothed(proto: onnx.ModelProto, samples: list[np.ndarray], alpha: float = 0.5) -> onnx.ModelProto:
    ready = prepare(proto, 21)
    opened = open_samples(ready, [{"x": sample} for sample in samples])
    return smooth(ready, SCHEMES["int8-dynamic"], opened, Options(smooth=alpha))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("spelled_out", [False, True])
def test_same_answers_and_nearer_ones_when_quantized(residual: bool, spelled_out: bool) -> None:
    proto = normal(residual, spelled_out)
    samples = [RNG.standard_normal((8, 64)).astype(np.float32) for _ in range(4)]
    after = smoothed(proto, samples)
    want = run(proto, samples[0])
    assert off(run(after, samples[0]), want) < 1e-5  # float32 products and quotients of the weights, rounded once each
    # Nothing is computed for it that was not there; the other user of the normalised values gets its own copy.
    doubled = ops(proto).count("LayerNormalization") + ops(proto).count("Mul") + int(residual)
    assert ops(after).count("LayerNormalization") + ops(after).count("Mul") == doubled
    plain = run(quantized(proto, "int8-dynamic")[0], samples[0])
    better = run(quantized(proto, "int8-dynamic", Options(smooth=0.5), samples)[0], samples[0])
    assert np.square(better - want).sum() < 0.5 * np.square(plain - want).sum()


def test_through_relu_into_the_product_before() -> None:
    weights = {"v": RNG.standard_normal((64, 64)) * LOUD / 8, "b": LOUD, "w": RNG.standard_normal((64, 8))}
    weights["w"][5] = 0
    nodes = [node("MatMul", ["x", "v"], "p"), node("Add", ["p", "b"], "h"), node("Relu", ["h"], "r")]
    proto = network([*nodes, node("MatMul", ["r", "w"], "y")], weights, (8, 64))
    sample = RNG.standard_normal((8, 64)).astype(np.float32)
    after = smoothed(proto, [sample])
    assert off(run(after, sample), run(proto, sample)) < 1e-5
    assert ops(after) == ["Gemm", "MatMul", "Relu"]  # MatMul and Add as one, no operator for the division
    loud = next(array for name, array in constants(after).items() if name.startswith("v_smoothed"))
    assert np.ptp(np.abs(loud).max(axis=0)) < np.ptp(np.abs(weights["v"]).max(axis=0))


def test_where_nothing_takes_the_division_the_product_stays() -> None:
    weights = {"w": RNG.standard_normal((64, 8))}
    proto = network([node("Sigmoid", ["x"], "s"), node("MatMul", ["s", "w"], "y")], weights, (8, 64))
    assert ops(smoothed(proto, [np.ones((8, 64), np.float32)])) == ["MatMul", "Sigmoid"]


def test_wrong_use() -> None:
    proto = normal(False, False)
    with pytest.raises(UsageError, match="calibration data"):
        quantized(proto, "int8-dynamic", Options(smooth=0.5))
    with pytest.raises(UsageError, match="alpha is 2"):
        smoothed(proto, [np.ones((8, 64), np.float32)], 2)
