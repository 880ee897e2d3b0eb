"""Bias correction takes the mean error of rounded weights back."""

import numpy as np
import onnx
import pytest

from quant.bias_correction import correct_biases, dequantized
from quant.contract import Options
from quant.graph import Graph
from quant.quantize import quantize
from targets.errors import UsageError
from tests.quant.networks import Arrays, convolutions, images, model, node, run


def positive(count: int, shape: tuple[int, ...]) -> list[Arrays]:
    """Inputs with a mean far from zero, where rounded weights shift the output most."""
    return [{"x": np.abs(sample["x"]) + 1} for sample in images(count, shape=shape)]


def mean_error(exact: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[channels]: absolute mean difference, channels last."""
    return np.abs((other.astype(np.float64) - exact).reshape(-1, exact.shape[-1]).mean(axis=0))


def product(bias: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    weights = {"w": rng.standard_normal((64, 16)), "b": rng.standard_normal(16)}
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    return model([node("Gemm", inputs, "y")], weights, (8, 64))


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_error_of_four_bit_weights_goes(bias: bool) -> None:
    proto, samples = product(bias), positive(40, (8, 64))
    plain = quantize(proto, None, "int4", samples)
    corrected = quantize(proto, None, "int4", samples, Options(bias_correction=True))
    exact = run(proto, samples)
    before, after = mean_error(exact, run(plain.model, samples)), mean_error(exact, run(corrected.model, samples))
    # the very samples the means were taken of: nothing but float32 rounding is left
    assert before.max() > 0.01
    assert after.max() < 1e-4 * before.max() + 1e-5


def test_int32_biases_of_static_quantization_are_shifted_in_their_own_steps() -> None:
    rng = np.random.default_rng(5)
    weights = {"w": rng.standard_normal((4, 6, 1, 1)) * 1e-3}
    weights["w"][:, 0] = 1  # one large weight makes the steps of all others coarse
    proto = model([node("Conv", ["x", "w"], "y")], weights, (1, 6, 5, 5))
    samples = positive(30, (1, 6, 5, 5))
    made = quantize(proto, None, "int8", samples, Options(bias_correction=False)).model
    done = correct_biases(proto, made, samples)
    made = Graph(made).finish()
    onnx.checker.check_model(made, full_check=True)
    conv = next(n for n in made.graph.node if n.op_type == "Conv")
    dq = Graph(made).producer[conv.input[2]]
    assert Graph(made).constant(dq.input[0]).dtype == np.int32  # type: ignore[union-attr]
    # what was added is -(W_q - W) E[x], to half a step
    error = dequantized(Graph(made), conv.input[1]).reshape(4, 6) - weights["w"].reshape(4, 6)  # type: ignore[union-attr]
    means = np.mean([sample["x"] for sample in samples], axis=(0, 1, 3, 4))
    np.testing.assert_allclose(done.shifts["conv_y"], -error @ means, rtol=1e-3, atol=1e-7)
    step = Graph(made).constant(dq.input[1]).max()  # type: ignore[union-attr]
    shifted = dequantized(Graph(made), conv.input[2])
    assert shifted is not None
    np.testing.assert_allclose(shifted, done.shifts["conv_y"], atol=step)


def test_a_whole_network_by_the_option() -> None:
    proto, samples = convolutions(disparity=4), images(10)
    plain = quantize(proto, None, "int8", samples, Options(bias_correction=False))
    corrected = quantize(proto, None, "int8", samples, Options(bias_correction=True))
    onnx.checker.check_model(corrected.model, full_check=True)
    exact = run(proto, samples)
    errors = [np.abs(run(made.model, samples) - exact).mean() for made in (plain, corrected)]
    assert errors[1] < 1.1 * errors[0]  # weights of 8 bits leave little to correct: it must do no harm
    assert not np.array_equal(run(plain.model, samples), run(corrected.model, samples))


def test_layers_that_cannot_be_corrected_are_told() -> None:
    proto = model([node("MatMul", ["x", "w"], "y")], {"w": np.eye(64)}, (2, 64))
    done = correct_biases(proto, quantize(proto, None, "int4").model, images(1, shape=(2, 64)))
    assert done.shifts == {}
    assert "no bias" in done.skipped["matmul_y"]


def test_without_samples_it_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="calibration data"):
        quantize(product(True), None, "int4", None, Options(bias_correction=True))
