"""Quantizing by multiplication equals quantizing by division, ties and ends included."""

import numpy as np
import pytest

from compiler.codegen.jit import run_stages
from targets.kernels.nest import lower_nest
from targets.kernels.rounding import quantized
from targets.kernels.tensor import Tensor, compute
from targets.target import Target
from tests.targets.kernels.kernel_case import ISAS


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(("scale", "zero", "dtype"), [(0.0235, 117, "uint8"), (0.1, -7, "int8"), (0.0003, 1, "int16")])
def test_a_known_scale_divides_exactly(target: Target, scale: float, zero: int, dtype: str) -> None:
    """Every half step, its neighbours in float32, and random values: as numpy's division and rint."""
    info, by = np.iinfo(dtype), np.float32(scale)
    ties = (np.arange(info.min - 3, info.max + 4, dtype=np.float32) - zero + np.float32(0.5)) * by
    around = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    drawn = (np.random.default_rng(3).standard_normal(1 << 17) * 90 * scale).astype(np.float32)
    special = np.float32([0, -0.0, np.inf, -np.inf, 1e30, -1e30, 1e-40])
    x = np.concatenate([ties, *around, drawn, special])
    source, result = Tensor(x.shape, "float32", "x"), Tensor(x.shape, dtype, "y")
    made = compute(x.shape, dtype, lambda i: quantized(source(i), scale, zero, info.min, info.max, dtype), [source])
    (got,) = run_stages(lower_nest([(made, result)], target, "quantize"), {id(source): x}, [result], target)
    np.testing.assert_array_equal(got, np.clip(np.rint(x / by).astype(np.float64) + zero, info.min, info.max))
