"""Figures of the README's table of budgets, on a network small enough for a test."""

from pathlib import Path

import pytest

from benchmarks.budgets import Network, least, planned, row
from edgert.errors import DoesNotFit
from tests.split.nets import plain


@pytest.mark.slow
def test_a_line_of_the_table(tmp_path: Path) -> None:
    path = plain(tmp_path / "m.onnx")
    (whole, macs), floor = planned(path, {}, None), least(path, {})
    assert 0 < floor < whole
    arena, macs_at_floor = planned(path, {}, floor)
    assert arena == floor
    with pytest.raises(DoesNotFit):
        planned(path, {}, floor - 1)
    name, *cells = row(Network("net", floor + 1023 & ~1023, lambda folder: path), path, tmp_path)
    assert name == "net"
    assert cells[:3] == [f"{whole:,}", f"{floor:,}", f"{100 * (macs_at_floor - macs) / macs:.1f} %"]
    assert int(str(cells[4]).replace(",", "")) <= floor + 1023
    assert float(str(cells[6])) > 0
    assert float(str(cells[7])) > 0


def test_a_budget_that_is_refused_has_no_arena_and_no_time(tmp_path: Path) -> None:
    path = plain(tmp_path / "m.onnx")
    cells = row(Network("net", 1024, lambda folder: path), path, tmp_path)
    assert cells[-5:] == ["1K", "refused", "", "", ""]
