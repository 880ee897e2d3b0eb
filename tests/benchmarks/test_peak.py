"""The peak kernels are really multiply-adds in registers."""

import pytest

from targets import UnknownTarget, get_target

try:
    get_target("host")
except UnknownTarget:
    pytest.skip("needs AVX2", allow_module_level=True)

from benchmarks import peak
from benchmarks.peak_kernels import UNROLL, kernel, units


# pmaddwd is what machines without VNNI have, and runs everywhere
@pytest.mark.parametrize("unit", dict.fromkeys([*units(), "pmaddwd"]))
def test_a_kernel_computes(unit: str) -> None:
    loop = kernel(unit)
    assert loop.call(10) == loop.expected(10)
    assert loop.call(1000) == loop.expected(1000)


def test_operations_are_counted() -> None:
    target = get_target("host")
    registers = (target.registers - 4) * UNROLL
    assert kernel("float32").operations == 2 * target.lanes("float32") * registers
    # bytes: a quarter the size, so four times as many products in an instruction; or twice as many, of 16 bits
    assert kernel(units()[1]).operations == kernel("float32").operations * {"vpdpbusd": 4, "pmaddwd": 2}[units()[1]]


def test_a_measured_peak_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "CALLS", (0.0001,))
    assert all(peak.measure_peak(2, seconds=0.01, unit=unit) > 0 for unit in units())
