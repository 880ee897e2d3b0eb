"""nf4 and codebook: weights out of tables of 16 values."""

import numpy as np
import pytest

from quant.contract import Options
from quant.kmeans import fit
from quant.model import weight_bytes
from quant.nf4 import LEVELS, double_quantize, nearest, undo
from tests.quant.products import FLOAT32_SUMS, constants, gemm, off, ops, product, quantized, run

RNG = np.random.default_rng(5)


def read_nf4(arrays: dict[str, np.ndarray], group: int, n: int) -> np.ndarray:
    """The weights [K, N], out of the constants of a model with one product."""
    scales = undo(arrays["w_scale_codes"][:, 0], arrays["w_scale_mean"], arrays["w_scale_scales"][:, 0])
    return (LEVELS[arrays["w_nf4"].astype(int)] * scales.reshape(-1, 1, n)).reshape(-1, n)


def test_levels_are_the_quantiles_of_the_paper() -> None:
    # QLoRA's construction: 8 quantiles below 0, 0 and 7 above, evenly spaced in probability, divided by the largest.
    from statistics import NormalDist

    edge = 0.9677083
    below = [-NormalDist().inv_cdf(p) for p in np.linspace(edge, 0.5, 8)[:-1]]
    above = [NormalDist().inv_cdf(p) for p in np.linspace(edge, 0.5, 9)[:-1]][::-1]
    np.testing.assert_allclose(LEVELS, np.array([*below, 0, *above]) / max(above), atol=1e-6)


def test_nearest_level() -> None:
    values = RNG.uniform(-1.1, 1.1, 1000).astype(np.float32)
    np.testing.assert_array_equal(nearest(values), np.abs(values[:, None] - LEVELS).argmin(axis=1))


def test_double_quantization_is_within_half_a_step() -> None:
    scales = RNG.uniform(0.5, 2, 1000).astype(np.float32)
    codes, mean, runs = double_quantize(scales)
    assert codes.dtype == np.int8 and len(runs) == 4
    assert np.abs(undo(codes, mean, runs) - scales).max() <= runs.max() / 2 * 1.001


@pytest.mark.parametrize(("k", "group"), [(128, 64), (96, 32), (80, 16)])
@pytest.mark.parametrize("n", [12, 300])
def test_nf4_product(k: int, group: int, n: int) -> None:
    weight = RNG.standard_normal((k, n)).astype(np.float32)
    x = RNG.standard_normal((2, 5, k)).astype(np.float32)
    model, (layer,) = quantized(product(weight), "nf4")
    read = read_nf4(constants(model), group, n)
    # A level is at most 0.152 from a weight divided by its block's largest size; the scale's own rounding adds 1/254.
    assert layer.scheme == "nf4" and np.abs(read - weight).max() < 0.16 * np.abs(weight).max()
    assert off(run(model, x), x @ read) < FLOAT32_SUMS


def test_nf4_takes_four_bits_and_an_eighth() -> None:
    weight = RNG.standard_normal((1024, 256)).astype(np.float32)
    model, _ = quantized(product(weight), "nf4")
    assert 4 < weight_bytes(model) * 8 / weight.size < 4.2
    _, (layer,) = quantized(product(weight[:1023]), "nf4")
    assert layer.scheme is None and "divides the 1023 inputs" in layer.reason


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("scheme", ["nf4", "codebook"])
def test_gemm(scheme: str, transposed: bool) -> None:
    weight, bias = RNG.standard_normal((64, 12)).astype(np.float32), RNG.standard_normal(12).astype(np.float32)
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    model, _ = quantized(gemm(weight, bias, transposed, alpha=0.5, beta=2.0), scheme)
    arrays = constants(model)
    if scheme == "nf4":
        read = read_nf4(arrays, 64, 12)
    else:
        codes = arrays["w_codes"].astype(int)
        read = arrays["w_tables"][codes + arrays["w_offsets"]] * arrays["w_scale"]
    assert np.square(read - weight).mean() < 0.02  # four bits leave a hundredth of a normal distribution's variance
    assert off(run(model, x), 0.5 * x @ read + 2 * bias) < FLOAT32_SUMS
    assert ("Transpose" in ops(model)) == transposed


def test_codebooks_go_to_rows_of_their_kind() -> None:
    rows = np.concatenate([RNG.choice([-1, 1], (20, 200)), RNG.choice([-2, 0, 2], (20, 200))])
    books = fit((rows + 0.01 * RNG.standard_normal(rows.shape)).astype(np.float32)[RNG.permutation(40)], 2, RNG)
    assert len(books.tables) == 2 and (np.diff(books.tables, axis=1) >= 0).all()
    mixed = fit(rows.astype(np.float32), 1, RNG)
    assert np.abs(mixed.decode() - rows).max() < 1e-6  # five values fit into one table
    assert np.bincount(books.book).tolist() == [20, 20]


def test_more_codebooks_and_a_fixed_seed() -> None:
    weight = (RNG.standard_normal((128, 64)) ** RNG.choice([1, 3], 64)).astype(np.float32)
    x = RNG.standard_normal((2, 5, 128)).astype(np.float32)
    want = run(product(weight), x)

    def error(group: int) -> float:
        return float(np.square(run(quantized(product(weight), "codebook", Options(group=group))[0], x) - want).sum())

    assert error(8) < error(64)
    assert quantized(product(weight), "codebook")[0] == quantized(product(weight), "codebook")[0]
