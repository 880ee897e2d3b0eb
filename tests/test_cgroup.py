"""The helper that runs programs under a limit of memory."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from tests import cgroup

pytestmark = pytest.mark.skipif(cgroup.unusable() is not None, reason=str(cgroup.unusable()))
M = 1 << 20


def python(code: str, limit: int, timeout: float = 60) -> cgroup.Limited:
    return cgroup.run_limited([sys.executable, "-S", "-c", code], limit, timeout)


def groups() -> set[str]:
    _, folder = cgroup._hierarchy()
    return {path.name for path in folder.iterdir() if path.name.startswith("edgert-")}


def test_what_fits_runs_and_its_peak_is_told() -> None:
    done = python(f"x = bytearray({40 * M}); x[::4096] = b'1' * len(x[::4096]); print(len(x))", 100 * M)
    assert (done.returncode, done.killed) == (0, False), done
    assert done.stdout == f"{40 * M}\n"
    assert done.peak is None or 40 * M < done.peak <= 100 * M


def test_what_does_not_fit_is_killed() -> None:
    done = python(f"x = bytearray({64 * M}); x[::4096] = b'1' * len(x[::4096]); print('alive')", 32 * M)
    assert done.killed
    assert "alive" not in done.stdout
    assert done.peak is None or done.peak <= 32 * M


def test_pages_of_files_count(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(24 * M))
    cgroup.forget(path)
    done = python(f"print(len(open({str(path)!r}, 'rb', 0).read({24 * M}) * 0))", 64 * M)
    assert done.returncode == 0
    if done.peak is not None:
        assert done.peak > 40 * M  # the bytes read, and as many of page cache


def test_nothing_is_left_when_it_takes_too_long() -> None:
    before = groups()
    with pytest.raises(subprocess.TimeoutExpired):
        python("import time; time.sleep(30)", 64 * M, timeout=0.5)
    assert groups() <= before


def test_a_file_that_somebody_has_mapped_is_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 << 20))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held:
        assert sum(held[::4096]) == 0
        with pytest.raises(OSError, match="some process has them mapped"):
            cgroup.forget(path)
    cgroup.forget(path)
