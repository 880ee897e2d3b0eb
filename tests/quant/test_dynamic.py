"""int8-dynamic and int8-outlier: the graphs as written give the integer arithmetic they stand for."""

from dataclasses import replace

import numpy as np
import pytest

from quant.blocks import per_column
from quant.contract import Options
from quant.schemes import SCHEMES, ActivationFormat
from targets.errors import UsageError
from tests.quant.networks import model as network
from tests.quant.networks import node
from tests.quant.products import FLOAT32_SUMS, constants, gemm, lookup, off, ops, product, quantized, run

RNG = np.random.default_rng(4)
BY_TENSOR = replace(SCHEMES["int8-dynamic"], activations=ActivationFormat("uint8", static=False), opset=13)
BY_ROW = replace(
    SCHEMES["int8-dynamic"], activations=ActivationFormat("int8", symmetric=True, static=False, per="row"), opset=21
)


def by_tensor(x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """DynamicQuantizeLinear as its specification has it: codes less the zero point, and the scale."""
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero, 0, 255) - zero, scale


def by_row(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes with one scale a row."""
    scale = np.maximum(np.abs(x).max(-1, keepdims=True) / np.float32(127), np.float32(1e-30))
    return np.rint(x / scale), scale


@pytest.mark.parametrize(("scheme", "rounded"), [(BY_TENSOR, by_tensor), (BY_ROW, by_row)], ids=["tensor", "row"])
def test_product_is_integer_arithmetic(scheme, rounded) -> None:
    weight = RNG.standard_normal((70, 12)).astype(np.float32)
    weight[:, 5] = 0
    x = RNG.standard_normal((2, 5, 70)).astype(np.float32)
    x[0, 1] = 0
    model, (layer,) = quantized(product(weight, np.ones(12)), scheme)
    assert layer.scheme == scheme.name and "MatMulInteger" in ops(model) and "MatMul" not in ops(model)
    codes, scales = per_column(weight)
    read, scale = rounded(x)
    assert off(run(model, x), read @ codes.astype(np.float64) * scale * scales + 1) < FLOAT32_SUMS


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("scheme", [BY_TENSOR, BY_ROW], ids=["tensor", "row"])
def test_gemm_is_taken_apart(scheme, transposed: bool) -> None:
    weight, bias = RNG.standard_normal((64, 12)).astype(np.float32), RNG.standard_normal(12).astype(np.float32)
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    model, _ = quantized(gemm(weight, bias, transposed, alpha=0.5, beta=2.0), scheme)
    codes, scales = per_column(weight)
    read, scale = (by_row if scheme is BY_ROW else by_tensor)(x)
    assert off(run(model, x), 0.5 * (read @ codes.astype(np.float64)) * scale * scales + 2 * bias) < FLOAT32_SUMS


def test_products_of_one_input_share_its_rounding() -> None:
    weights = {"v": RNG.standard_normal((64, 8)), "w": RNG.standard_normal((64, 8))}
    nodes = [node("MatMul", ["x", "v"], "p"), node("MatMul", ["x", "w"], "q"), node("Add", ["p", "q"], "y")]
    model, _ = quantized(network(nodes, weights, (3, 64)), BY_TENSOR)
    assert ops(model).count("DynamicQuantizeLinear") == 1


def test_lookup_table_has_int8_rows() -> None:
    table = RNG.standard_normal((40, 48)).astype(np.float32)
    table[7] = 0
    model, layers = quantized(lookup(table), BY_TENSOR, Options(keep=frozenset(["matmul_y"])))
    assert {layer.op: layer.scheme for layer in layers} == {"MatMul": None, "Gather": BY_TENSOR.name}
    codes, scales = per_column(table.T)
    ids = np.array([[0, 7, 39, 7]])
    np.testing.assert_array_equal(run(model, ids)[0], (codes * scales).T[ids[0]])
    assert "t" not in constants(model)


def test_convolutions_and_single_vectors_stay_float32() -> None:
    from tests.quant.networks import convolutions

    _, layers = quantized(convolutions(), "int8-dynamic")
    assert {layer.op: layer.scheme for layer in layers} == {"Conv": None, "Gemm": "int8-dynamic"}
    vector = network([node("MatMul", ["x", "w"], "y")], {"w": np.ones((64, 8))}, (64,))
    model, (layer,) = quantized(vector, "int8-dynamic")
    assert layer.scheme is None and "vector" in layer.reason
    assert (run(model, np.ones(64, np.float32)) == 64).all()


def outliers(rows: int = 40) -> np.ndarray:
    """[1, rows, 64] with two features beyond 6."""
    x = RNG.uniform(-2, 2, (1, rows, 64)).astype(np.float32)
    x[..., [3, 40]] *= 30
    return x


def test_outliers_stay_float32() -> None:
    weight = RNG.standard_normal((64, 12)).astype(np.float32)
    x = outliers()
    model, (layer,) = quantized(product(weight), "int8-outlier", samples=[x])
    assert layer.scheme == "int8-outlier" and layer.reason.startswith("2 of 64")
    kept = np.isin(np.arange(64), [3, 40])
    codes, scales = per_column(weight[~kept])
    read, scale = by_row(x[..., ~kept])
    want = read @ codes.astype(np.float64) * scale * scales + x[..., kept] @ weight[kept]
    assert off(run(model, x), want) < FLOAT32_SUMS
    without, (layer,) = quantized(product(weight), "int8-outlier", Options(outlier=1e9), [x])
    assert layer.reason == "no outliers" and "Gather" not in ops(without)
    exact = run(product(weight), x)
    assert np.square(run(model, x) - exact).sum() < 0.05 * np.square(run(without, x) - exact).sum()


def test_outliers_everywhere_and_no_data() -> None:
    proto = product(RNG.standard_normal((64, 12)).astype(np.float32))
    _, (layer,) = quantized(proto, "int8-outlier", Options(outlier=0.5), [outliers()])
    assert layer.scheme is None and "64 of 64" in layer.reason
    with pytest.raises(UsageError, match="calibration data"):
        quantized(proto, "int8-outlier")
