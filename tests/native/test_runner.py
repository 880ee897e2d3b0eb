"""The runner answers as the Python runner does, byte for byte, and is small."""

from __future__ import annotations

import json
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import artifact, npy
from edgert.native.runner import MACHINES, runner
from tests.edgert import fake_artifact as fake
from tests.native.conftest import Run, assert_refused

MOST_BYTES = 200 << 10
ELF_NUMBERS = {"x86_64": 62, "aarch64": 183, "armv7": 40, "riscv64": 243}


@pytest.mark.parametrize("machine", MACHINES)
def test_it_is_small_and_static(machine: str) -> None:
    program = runner(machine)
    assert len(program) <= MOST_BYTES
    assert int.from_bytes(program[18:20], "little") == ELF_NUMBERS[machine]
    assert b"/ld-" not in program and b"libc.so" not in program


@pytest.mark.parametrize("rows", [1, 100, fake.ROWS])
@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_are_byte_identical(tmp_path: Path, run: Run, fake_path: Path, rows: int, threads: int) -> None:
    inputs = fake.make_inputs(rows)
    done = run(fake_path, *fake.save_inputs(tmp_path, inputs), "--output", tmp_path / "out", "--threads", threads)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with edgert.load(fake_path, threads=threads) as model:
        results = model.run(inputs)
    fake.assert_outputs(tmp_path / "out", results)


def test_frames(program: Path, fake_path: Path) -> None:
    inputs = fake.make_inputs(5)
    files = [npy.to_bytes(array) for array in inputs.values()]
    sent = b"".join(struct.pack("<Q", len(file)) + file for file in files)
    done = subprocess.run([program, fake_path, "--stdio"], input=sent, capture_output=True, check=True)
    wanted = [npy.to_bytes(array) for array in fake.expected(inputs).values()]
    assert done.stdout == b"".join(struct.pack("<Q", len(file)) + file for file in wanted)
    cut = subprocess.run([program, fake_path, "--stdio"], input=sent[:-1], capture_output=True, check=False)
    assert (cut.returncode, cut.stderr) == (1, b"edgert-run: standard input ends within the inputs\n")


def test_generated_inputs(tmp_path: Path, run: Run, fake_path: Path) -> None:
    words = ["--input", "x=1.5", "--input", "y=zeros", "--output", tmp_path]
    assert run(fake_path, *words).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), np.full((fake.ROWS, 4), 1.5, np.float32) * fake.SCALE)
    assert (
        run(
            fake_path, *fake.save_inputs(tmp_path, fake.make_inputs(3) | {"y": np.zeros((3, 4), np.float32)})
        ).returncode
        == 0
    )
    x = fake.save_inputs(tmp_path, {"x": np.zeros((3, 4), np.float32)})
    assert run(fake_path, *x, "--input", "y=random", "--output", tmp_path).returncode == 0
    z = np.load(tmp_path / "z.npy")
    assert z.shape == (3, 4) and ((z >= 0) & (z < 1)).all() and len(np.unique(z)) == z.size


def test_verify_and_times(run: Run, fake_path: Path) -> None:
    lines = run(fake_path, "--verify", "--time", 5, "--profile").stdout.splitlines()
    assert lines[:2] == ["z: error 0 of the range, passed", "some/positive:0: error 0 of the range, passed"]
    assert [line.split("  ")[-1] for line in lines[3:]] == ["scale (Mul)", "select (Compress)"]
    times = json.loads(run(fake_path, "--time", 3, "--json").stdout)
    assert times["runs"] == 3 and 0 < times["best_ms"] <= times["median_ms"]


def test_verify_notices_a_wrong_answer(tmp_path: Path, run: Run, fake_code: Path) -> None:
    inputs = fake.make_inputs(8)
    wanted = fake.expected(inputs)
    wanted["z"][3, 1] += 1
    manifest = fake.make_manifest(10_000)
    artifact.write(tmp_path / "w.edge", manifest, fake_code.read_bytes(), fake.make_weights(), inputs, wanted)
    done = run(tmp_path / "w.edge", "--verify")
    assert done.returncode == 1 and "FAILED" in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give an artifact"),
        (["--what"], 2, "--what is not an option"),
        (["/none.edge"], 2, "/none.edge: No such file or directory"),
        (["/"], 2, "/: not a regular file"),
        (["--rollback"], 2, "another number of words"),
    ],
)
def test_wrong_use(run: Run, words: list[str], code: int, message: str) -> None:
    assert_refused(run(*words), code, message)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"x": None}, 2, "missing input 'x': give --input 'x=FILE.npy'"),
        ({"x": np.zeros((16, 4))}, 2, "input 'x' is <f8, expected <f4"),
        ({"x": np.zeros((1025, 4), np.float32)}, 2, "has n = 1025, the model was compiled for 1 to 1024"),
        ({"x": np.full((16, 4), np.nan, np.float32)}, 1, "step 1, 'select' (Compress), failed on these inputs"),
    ],
)
def test_bad_inputs(tmp_path: Path, run: Run, fake_path: Path, change: dict, code: int, message: str) -> None:
    inputs = {name: value for name, value in (fake.make_inputs(16) | change).items() if value is not None}
    assert_refused(run(fake_path, *fake.save_inputs(tmp_path, inputs), "--output", tmp_path / "out"), code, message)
    assert not (tmp_path / "out").exists()


def test_what_this_machine_lacks(tmp_path: Path, run: Run, fake_code: Path) -> None:
    triple = fake.make_manifest(0)["target"]["triple"]
    for target, code, message in (
        ({"name": "t", "triple": triple, "features": ["fpu", "avx9"]}, 1, "needs avx9, which this processor lacks"),
        ({"name": "t", "triple": "vax-unknown-linux", "features": []}, 1, "compiled for vax, this machine is"),
    ):
        fake.make_artifact(tmp_path / "m.edge", fake_code, target=target)
        assert_refused(run(tmp_path / "m.edge", "--verify"), code, message)
    large = fake.make_manifest(10_000)["arena_bytes"] + (1 << 44)
    fake.make_artifact(tmp_path / "m.edge", fake_code, arena_bytes=large)
    assert_refused(run(tmp_path / "m.edge", "--verify"), 4, "arena, inputs and outputs")


@pytest.mark.apt
@pytest.mark.parametrize(
    ("machine", "emulator", "zig", "triple"),
    [
        ("aarch64", "qemu-aarch64-static", "aarch64-linux-gnu", "aarch64-unknown-linux-gnu"),
        ("armv7", "qemu-arm-static", "arm-linux-gnueabihf", "armv7-unknown-linux-gnueabihf"),
        ("riscv64", "qemu-riscv64-static", "riscv64-linux-gnu", "riscv64-unknown-linux-gnu"),
    ],
)
def test_other_architectures(tmp_path: Path, machine: str, emulator: str, zig: str, triple: str) -> None:
    if not shutil.which(emulator) or platform.machine() == machine:
        pytest.skip(f"no {emulator} (apt: qemu-user-static)")
    code = fake.compile_code(tmp_path, fake.HERE / "fake_model.c", "-target", zig, "-fno-unwind-tables")
    fake.make_artifact(tmp_path / "m.edge", code, target={"name": "t", "triple": triple, "features": []})
    (tmp_path / "run").write_bytes(runner(machine))
    (tmp_path / "run").chmod(0o755)
    command = [emulator, tmp_path / "run", tmp_path / "m.edge", "--verify", "--threads", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("passed")) == (0, 2), done.stderr
