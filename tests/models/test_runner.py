"""The six models under the runner without Python: the bytes that the Python runner gives."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import cpu, npy
from edgert.native.runner import runner
from targets.devices.qemu_user import QemuUser
from tests.models.arm_python import arm_python, run_python
from tests.models.real import MODELS, compiled, inputs

pytestmark = [pytest.mark.registry, pytest.mark.slow]


def outputs(command: list[str], artifact: Path, feeds: dict[str, np.ndarray], folder: Path) -> dict[str, bytes]:
    words = []
    for name, array in feeds.items():
        (folder / f"in.{name}.npy").write_bytes(npy.to_bytes(array))
        words += ["--input", f"{name}={folder}/in.{name}.npy"]
    subprocess.run([*command, str(artifact), *words, "--output", str(folder / "out")], check=True, timeout=600)
    return {path.stem: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_the_python_runners(name: str, tmp_path: Path) -> None:
    source, artifact = compiled(name, tmp_path)
    (tmp_path / "run").write_bytes(runner(platform.machine()))
    (tmp_path / "run").chmod(0o755)
    with edgert.load(artifact, threads=2) as model:
        for feeds in inputs(name, source)[:3]:
            want = {npy.file_stem(key): npy.to_bytes(array) for key, array in model.run(feeds).items()}
            assert outputs([str(tmp_path / "run")], artifact, feeds, tmp_path) == want


@pytest.mark.apt
@pytest.mark.parametrize("name", MODELS)
def test_arm_under_qemu(name: str, tmp_path: Path) -> None:
    device = QemuUser("aarch64")
    if cpu.architecture() == "aarch64" or device.missing() or arm_python() is None:
        pytest.skip("no qemu-aarch64 (apt: qemu-user-static), no Python for it, or this machine is one")
    source, artifact = compiled(name, tmp_path, "aarch64")
    feeds, emulator = inputs(name, source)[0], [str(device._program()), "-cpu", "max"]
    for folder in ("in", "python"):
        (tmp_path / folder).mkdir()
    for key, array in feeds.items():
        (tmp_path / "in" / f"{npy.file_stem(key)}.npy").write_bytes(npy.to_bytes(array))
    run_python(emulator, artifact, tmp_path / "in", tmp_path / "python")
    want = {path.stem: path.read_bytes() for path in (tmp_path / "python").iterdir()}
    (tmp_path / "run").write_bytes(runner("aarch64"))
    (tmp_path / "run").chmod(0o755)
    assert outputs([*emulator, str(tmp_path / "run")], artifact, feeds, tmp_path) == want


@pytest.mark.apt
@pytest.mark.parametrize("name", MODELS)
def test_32_bit_arm_under_qemu(name: str, tmp_path: Path) -> None:
    device = QemuUser("armv7")
    if device.missing():
        pytest.skip("no qemu-arm (apt: qemu-user-static)")
    _, artifact = compiled(name, tmp_path, "armv7-neon")
    (tmp_path / "run").write_bytes(runner("armv7"))
    (tmp_path / "run").chmod(0o755)
    code, said, error = device.run(str(tmp_path / "run"), [str(artifact), "--verify"])
    assert code == 0 and "passed" in said, (said, error)
