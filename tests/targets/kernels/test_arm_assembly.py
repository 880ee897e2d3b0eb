"""The inner loops of products for 64-bit Arm use the instructions that their target is there for, and few others."""

import pytest

from benchmarks.arm_loops import CASES, Case, hot_loop

MOST = 1.15  # instructions for each one that multiplies


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.target}-{case.kind}")
def test_hot_loops(case: Case) -> None:
    loop = hot_loop(case)
    assert loop.counts[case.instruction] >= 64, loop
    assert loop.ratio(case) <= MOST, loop


def test_bytes_without_dot_products() -> None:
    loop = hot_loop(Case("cortex-a53", "int8", "uint8", "mla.4s", 4))
    assert loop.counts["mla.4s"] >= 26 and not loop.counts["sub.4s"], loop
