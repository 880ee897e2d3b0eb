"""GPTQ against rounding to nearest, by what it minimises: the error of the answers."""

import numpy as np
import pytest

from quant.blocks import Blocks, quantize_blocks
from quant.contract import Options
from quant.gptq import gptq
from targets.errors import UsageError
from tests.quant.products import off, product, quantized, run

RNG = np.random.default_rng(2)


def inputs(k: int, rows: int = 2000) -> np.ndarray:
    """Features that go together, as activations do: [rows, k]."""
    return RNG.standard_normal((rows, k)) @ (np.eye(k) + 0.2 * RNG.standard_normal((k, k)))


def error(blocks: Blocks, weight: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(x @ (blocks.decode() - weight)).sum())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("k", "group"), [(96, 32), (160, 128), (100, 32)])
def test_answers_are_nearer_than_by_rounding_to_nearest(k: int, group: int, symmetric: bool) -> None:
    weight = RNG.standard_normal((k, 24)).astype(np.float32)
    x = inputs(k)
    nearest = quantize_blocks(weight, group, symmetric)
    assert error(gptq(weight, x.T @ x, group, symmetric), weight, x) < 0.8 * error(nearest, weight, x)


def test_unrelated_inputs_of_one_size_leave_nothing_to_gain() -> None:
    weight = RNG.standard_normal((64, 8)).astype(np.float32)
    np.testing.assert_array_equal(gptq(weight, np.eye(64), 32).codes, quantize_blocks(weight, 32).codes)


def test_features_never_seen_are_rounded_to_nearest() -> None:
    weight = RNG.standard_normal((64, 8)).astype(np.float32)
    x = inputs(64)
    x[:, 5] = 0
    blocks = gptq(weight, x.T @ x, 32)
    step = blocks.scales[0]
    assert (np.abs(np.clip(weight[5], -8 * step, 7 * step) - blocks.decode()[5]) <= step / 2 * 1.0001).all()


@pytest.mark.parametrize("scheme", ["int4", "uint4", "int4x8"])
@pytest.mark.parametrize("rounding", ["gptq", "awq"])
def test_through_the_front_door(scheme: str, rounding: str) -> None:
    weight = RNG.standard_normal((96, 24)).astype(np.float32)
    x = inputs(96, 64).reshape(4, 16, 96) * np.where(np.arange(96) % 16 == 3, 10, 1)  # some features are large
    x = x.astype(np.float32)
    proto = product(weight)
    want = run(proto, x)
    nearest, _ = quantized(proto, scheme, Options(rounding="nearest"), list(x[:, None]))
    better, _ = quantized(proto, scheme, Options(rounding=rounding), list(x[:, None]))

    def squares(model) -> float:
        return float(np.square(run(model, x) - want).sum())

    assert squares(better) < 0.9 * squares(nearest)
    assert off(run(better, x), want) < 0.2


def test_needs_calibration_data() -> None:
    proto = product(RNG.standard_normal((64, 8)).astype(np.float32))
    for rounding in ("gptq", "awq"):
        with pytest.raises(UsageError, match="calibration data"):
            quantized(proto, "int4", Options(rounding=rounding))
    with pytest.raises(UsageError, match=r"'stochastic'.*nearest, gptq, awq"):
        quantized(proto, "int4", Options(rounding="stochastic"))
    with pytest.raises(UsageError, match="power of two"):
        quantized(proto, "int4", Options(group=24))
