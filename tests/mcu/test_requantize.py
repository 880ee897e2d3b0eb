"""Requantization by integers gives the bits of floats for every sum, also beside the middle between two integers."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.kernels.fixed_requantize import fixed
from tests.mcu.firmware import Function, firmware_function


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Function:
    folder = tmp_path_factory.mktemp("requantize")
    made = firmware_function(folder, "requantize.c", "edgert_requantized", "-fwrapv")
    made.restype, made.argtypes = ctypes.c_int32, [ctypes.c_int32, ctypes.c_int32, ctypes.c_uint32, ctypes.c_int32]
    return made


@given(
    m=st.integers(1 << 23, (1 << 24) - 1),
    power=st.integers(24, 36),
    spread=st.integers(0, 20),
    reach=st.integers(1000, 1 << 22),
    bounds=st.sampled_from([(0, 255), (-128, 127), (-255, 0)]),
    seed=st.integers(0, 999),
)
def test_every_stair(
    function: Function, m: int, power: int, spread: int, reach: int, bounds: tuple[int, int], seed: int
) -> None:
    low, high = bounds
    factors = np.array([np.ldexp(m, -power), np.ldexp(m, -power - spread)], np.float32)
    made = fixed(factors, low, high, np.array([reach, reach]))
    if made is None:
        return
    how = made.shift | (made.bits or 31) << 5 | made.doubt << 10
    rng = np.random.default_rng(seed)
    for channel, factor in enumerate(factors):
        # what rounds to a stair, and the sums beside it
        stairs = (np.arange(low - 1, high + 2) - 0.5) / np.float64(factor)
        sums = np.concatenate([np.ceil(stairs) + d for d in (-1, 0, 1)] + [rng.integers(-reach, reach + 1, 200)])
        sums = np.unique(np.clip(sums, -reach, reach)).astype(np.int32)
        want = np.clip(np.rint(sums.astype(np.float32) * factor), low, high)
        bits = 0 if made.exact else int(factor.view(np.int32))
        got = [function(int(s), int(made.factors[channel]), how, bits) for s in sums]
        assert np.array_equal(np.clip(got, low, high), want)


def test_what_it_takes() -> None:
    one = np.array([0.004, 0.003], np.float32)
    assert fixed(one, 0, 255, np.array([1 << 18, 1 << 18])) is not None
    assert fixed(one, 0, 255, np.array([1 << 31, 1])) is None  # sums overflow
    assert fixed(np.float32([np.inf]), 0, 255, np.array([100])) is None
    assert fixed(np.float32([1e-6]), 0, 255, np.array([1 << 30])) is None  # such sums are rounded as floats
