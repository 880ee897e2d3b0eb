"""Arm under QEMU: answers are this machine's but for rounding, and instructions are counted exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import arm_answers
from benchmarks.arm_instructions import Counter
from benchmarks.cases import CASES
from edgert.native.runner import runner
from targets.devices.qemu_user import QemuUser

pytestmark = pytest.mark.apt


@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.skipif(bool(QemuUser("armv7").missing()), reason="no qemu-arm (apt: qemu-user-static)")
@pytest.mark.parametrize("target", ["aarch64", "armv7-neon"])
@pytest.mark.parametrize("form", arm_answers.FORMS)
def test_answers_of_the_smallest_model(form: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the model is pulled to
    case = next(case for case in CASES if case.name == "silero-vad")
    found = arm_answers.compare(case, form, target, tmp_path)
    assert found.within, str(found)


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="no qemu-aarch64 with plugins (apt: qemu-user)")
def test_counts_are_exact(tmp_path: Path) -> None:
    program = tmp_path / "run"
    program.write_bytes(runner("aarch64"))
    program.chmod(0o755)
    counter = Counter(tmp_path)
    words = [*counter.emulator, str(program), "--help"]
    (first,), (second,) = counter.count(words), counter.count(words)
    assert first == second > 1000
