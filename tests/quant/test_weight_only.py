"""int4, uint4 and int4x8: the graphs as written give the arithmetic they stand for."""

import numpy as np
import pytest

from quant.blocks import quantize_blocks, spread
from quant.contract import Options
from tests.quant.products import FLOAT32_SUMS, constants, gemm, lookup, off, ops, product, quantized, run

RNG = np.random.default_rng(3)


def rounded(x: np.ndarray, group: int) -> np.ndarray:
    """x rounded to int8 in blocks along its last axis, and back."""
    blocks = x.reshape(*x.shape[:-1], -1, group)
    scale = np.maximum(np.abs(blocks).max(-1, keepdims=True) / np.float32(127), np.float32(1e-30))
    return (np.rint(blocks / scale) * scale).reshape(x.shape)


@pytest.mark.parametrize(("scheme", "group"), [("int4", 32), ("int4-g64", 64), ("uint4", 32), ("uint4-g128", 128)])
@pytest.mark.parametrize("k", [128, 100, 20])
def test_product_with_whole_and_short_blocks(scheme: str, group: int, k: int) -> None:
    weight = RNG.standard_normal((k, 12)).astype(np.float32)
    x = RNG.standard_normal((2, 5, k)).astype(np.float32)
    model, layers = quantized(product(weight, np.ones(12)), scheme)
    assert ops(model) == ["Add", "DequantizeLinear", "MatMul"]
    assert [layer.scheme for layer in layers] == [scheme]
    blocks = quantize_blocks(weight, group, scheme.startswith("int"))
    assert off(run(model, x), x @ blocks.decode() + 1) < FLOAT32_SUMS


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("scheme", ["int4", "uint4", "int4x8"])
def test_gemm(scheme: str, transposed: bool) -> None:
    weight, bias = RNG.standard_normal((64, 12)).astype(np.float32), RNG.standard_normal(12).astype(np.float32)
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    model, _ = quantized(gemm(weight, bias, transposed, alpha=0.5, beta=2.0), scheme)
    read = rounded(x, 32) if scheme == "int4x8" else x
    want = 0.5 * read @ quantize_blocks(weight, 32, scheme != "uint4").decode() + 2 * bias
    assert off(run(model, x), want) < FLOAT32_SUMS


@pytest.mark.parametrize("group", [32, 64])
def test_int4x8_is_integer_arithmetic(group: int) -> None:
    weight = RNG.standard_normal((128, 12)).astype(np.float32)
    x = RNG.standard_normal((2, 5, 128)).astype(np.float32)
    x[0, 1] = 0
    x[1, 2, :32] *= 1e-35  # a block below the least scale
    model, layers = quantized(product(weight), "int4x8", Options(group=group))
    assert layers[0].scheme == "int4x8"
    chain = ["Abs", "DequantizeLinear", "DequantizeLinear", "Div", "MatMul", "Max", "QuantizeLinear", "ReduceMax"]
    assert ops(model) == [*chain, "Reshape"]
    blocks = quantize_blocks(weight, group)
    cubes = x.reshape(2, 5, -1, group)
    scale = np.maximum(np.abs(cubes).max(-1) / np.float32(127), np.float32(1e-30))
    codes = np.rint(cubes / scale[..., None]).astype(np.int32)
    sums = np.einsum("bskg,kgn->bskn", codes, blocks.codes.astype(np.int32).reshape(-1, group, 12))
    want = np.einsum("bskn,bsk,kn->bsn", sums, scale.astype(np.float64), blocks.scales)
    assert off(run(model, x), want) < FLOAT32_SUMS


def test_int4x8_leaves_activations_whose_width_no_group_divides() -> None:
    weight = RNG.standard_normal((100, 12)).astype(np.float32)
    x = RNG.standard_normal((2, 5, 100)).astype(np.float32)
    model, (layer,) = quantized(product(weight), "int4x8")
    assert layer.scheme == "int4" and "32 does not divide" in layer.reason
    assert off(run(model, x), x @ quantize_blocks(weight, 32).decode()) < FLOAT32_SUMS


def test_products_of_one_input_share_its_rounding() -> None:
    from tests.quant.networks import model as network
    from tests.quant.networks import node

    weights = {"v": RNG.standard_normal((64, 8)), "w": RNG.standard_normal((64, 8))}
    nodes = [node("MatMul", ["x", "v"], "p"), node("MatMul", ["x", "w"], "q"), node("Add", ["p", "q"], "y")]
    model, _ = quantized(network(nodes, weights, (3, 64)), "int4x8")
    assert ops(model).count("QuantizeLinear") == 1


@pytest.mark.parametrize("scheme", ["int4", "uint4"])
def test_lookup_table(scheme: str) -> None:
    table = RNG.standard_normal((40, 48)).astype(np.float32)
    table[7] = 0
    model, _ = quantized(lookup(table), scheme, Options(keep=frozenset(["matmul_y"])))
    ids = np.array([[0, 7, 39, 7]])
    blocks = quantize_blocks(table.T.copy(), 32, scheme == "int4")
    np.testing.assert_array_equal(run(model, ids)[0], blocks.decode().T[ids[0]])
    untouched, _ = quantized(lookup(table), scheme, Options(embeddings=False))
    assert "t" in constants(untouched)


@pytest.mark.parametrize("scheme", ["int4", "uint4", "int4x8", "int8-dynamic", "nf4", "codebook"])
def test_zero_weights_give_zeros(scheme: str) -> None:
    weight = np.zeros((64, 12), np.float32)
    weight[:, 4] = 0.5
    x = RNG.standard_normal((2, 5, 64)).astype(np.float32)
    x[0, 0] = 0
    got = run(quantized(product(weight), scheme)[0], x)
    assert np.isfinite(got).all() and not got[0, 0].any()
    assert not got[..., np.arange(12) != 4].any()
    # One level is the weight itself; the rest is the rounding of activations: 64 of them, half a step each.
    assert np.abs(got[..., 4] - x.sum(-1) / 2).max() < 64 * np.abs(x).max() / 127 / 2 / 2


def test_bad_weights_and_kept_nodes_are_told() -> None:
    weight = np.ones((64, 12), np.float32)
    weight[3, 3] = np.nan
    _, (layer,) = quantized(product(weight), "int4")
    assert layer.scheme is None and "NaN" in layer.reason
    _, (layer,) = quantized(product(np.ones((64, 12))), "int4", Options(keep=frozenset(["matmul_y"])))
    assert layer.scheme is None and layer.reason == "kept as asked"


def test_bytes_a_weight() -> None:
    weight = RNG.standard_normal((512, 64)).astype(np.float32)
    from quant.model import weight_bytes

    for scheme, bits in {"int4": 5, "uint4": 5.125, "int4-g128": 4.25, "int8-dynamic": 8 + 32 / 512}.items():
        beyond = weight_bytes(quantized(product(weight), scheme)[0]) - bits * weight.size / 8
        assert 0 <= beyond <= 16  # the numbers that activations are rounded with
    assert spread(np.ones((2, 1)), 4, 7).shape == (7, 1)
