"""The peak kernel is really vector multiply-adds in registers."""

import pytest

from targets import UnknownTarget, get_target


def test_the_kernel_computes() -> None:
    try:
        get_target("host")
    except UnknownTarget:
        pytest.skip("needs AVX2")
    from benchmarks import peak

    _, call, operations = peak._kernel()
    # x * 1 + 0 keeps each chain at its start: 0 + 1 + ... over the chains
    chains = get_target("host").registers - 4
    assert call(10) == sum(range(chains))
    assert operations == 2 * get_target("host").lanes("float32") * chains * peak.UNROLL


def test_a_measured_peak_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import peak

    monkeypatch.setattr(peak, "ITERATIONS", (1000,))
    assert peak.measure_peak(2, seconds=0.01) > 0
