"""The table and picture of benchmarks/flash.py, and the arithmetic behind them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import flash_report, flash_runs
from benchmarks.flash_report import Row
from flashload.profile import FlashProfile
from tests import cgroup

MIB = 1 << 20
ROWS = [
    Row("m", None, 98 * MIB, 1.5e9, 120.0, 0, 60.0, 40.0, 120.0, None, True, ""),
    Row("m", 64 * MIB, 98 * MIB, 1.5e9, 30.0, 28.0, 0.0, 10.0, 40.0, 60 * MIB, True, ""),
    Row("m", 48 * MIB, 98 * MIB, 1.5e9, 0, 0, 5.0, 10.0, 30.0, 40 * MIB, False, "needs at least 50 MB"),
]


def test_the_table_says_what_did_not_run_and_why() -> None:
    lines = flash_report.table(ROWS).splitlines()
    assert lines[2].startswith("| m | no limit | 120 |")
    assert "| 64 | 30 | 28 | killed | 10 | 40 | 75 % |  | 3.0 | 60.0 |" in lines[3]
    assert "needs at least 50 MB" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_the_picture_is_svg_with_a_line_for_each() -> None:
    root = ElementTree.fromstring(flash_report.plot(ROWS))
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("polyline") == 4
    assert names.count("circle") == 1 + 1 + 2 + 2


def test_the_floor_reads_what_cannot_stay_or_computes() -> None:
    flash = FlashProfile("x", {(1 << 20, 4): 1e9})
    assert flash_runs.floor(50 * MIB, 100 * MIB, flash, 0.01) == pytest.approx(100)
    assert flash_runs.floor(100 * MIB, 60 * MIB, flash, 0.01) == pytest.approx(1e9 / (50 * MIB))


@pytest.mark.skipif(cgroup.unusable() is not None, reason=str(cgroup.unusable()))
def test_a_naive_loader_is_its_reads_and_the_computing(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * MIB))
    program = flash_runs.naive_program(tmp_path)
    run = flash_runs.naive(program, path, (4096, 7 * MIB), 12, 0.5, 32 * MIB)
    assert 0 < run.rate < 2, run.note
    assert flash_runs.naive(program, path, (4096, 9 * MIB), 12, 0.5, 32 * MIB).rate == 0  # beyond the file's end
