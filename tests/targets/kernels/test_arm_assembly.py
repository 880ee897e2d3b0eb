"""The inner loops of products for 64-bit Arm use the instructions that their target is there for, and few others."""

import pytest

from benchmarks.arm_loops import CASES, Case, hot_loop

MOST = 1.15  # instructions for each one that multiplies


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.target}-{case.kind}")
def test_hot_loops(case: Case) -> None:
    loop = hot_loop(case)
    assert loop.multiplying(case) >= 64, loop
    assert loop.ratio(case) <= MOST, loop


def test_unsigned_bytes_are_moved() -> None:
    for target, instruction, products in (
        ("cortex-a53", "smull.8h smlal2.8h sadalp.4s", 16 / 3),
        ("cortex-a76", "sdot.4s", 16),
    ):
        case = Case(target, "uint8 by int8", "uint8", instruction, products)
        assert hot_loop(case).ratio(case) <= MOST
