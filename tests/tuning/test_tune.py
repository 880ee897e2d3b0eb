"""`edgert tune`: rounds of tiles measured here, on a device, and on a farm of which one device dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import edgert
from compiler.tune import Records
from edgert.cli import main
from edgert.errors import UsageError
from edgert.tuning.measure import Farm, here
from edgert.tuning.tune import tune
from targets import get_target

TARGET = "x86-64-avx2"
TRIALS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions and a product."""
    rng, path = np.random.default_rng(5), tmp_path_factory.mktemp("tune") / "m.onnx"
    shapes = {"a": (24, 8, 3, 3), "b": (40, 24, 1, 1), "c": (40, 33)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("Conv", ["2", "b"], ["3"]), helper.make_node("GlobalAveragePool", ["3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]), helper.make_node("MatMul", ["5", "c"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "m", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 20, 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 33])],
        [numpy_helper.from_array((rng.standard_normal(s) / 8).astype(np.float32), n) for n, s in shapes.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_the_fastest_tiles_of_each_kernel_are_recorded(model: Path, tmp_path: Path) -> None:
    """Times that are made up: those of round 2 are the best, so every kernel keeps its second candidate."""
    rounds: list[int] = []
    kernels: set[str] = set()

    def measure(path: Path) -> list[int]:
        steps = edgert.load(path).manifest["steps"]
        rounds.append(len(rounds))
        kernels.update(step["kernel"] for step in steps)
        return [1000 if rounds[-1] == 2 else 2000 + rounds[-1]] * len(steps)

    file = tmp_path / "records.json"
    result = tune(str(model), TARGET, trials=TRIALS, output=str(file), measure=measure)
    records = json.loads(file.read_text())
    assert result.kernels == result.changed == len(records) == 3
    assert result.rounds == len(rounds) == 1 + TRIALS
    assert len(kernels) > 2 * len(records)  # other tiles are other kernels
    assert all(record["config"] and record["us"] < record["default_us"] for record in records.values())
    # what is on record is neither measured nor changed again
    again = tune(str(model), TARGET, trials=TRIALS, output=str(file), measure=measure)
    assert (again.kernels, again.rounds) == (0, 1)
    assert json.loads(file.read_text()) == records


def test_slower_tiles_change_nothing(model: Path, tmp_path: Path) -> None:
    rounds: list[int] = []

    def measure(path: Path) -> list[int]:
        rounds.append(len(rounds))
        return [1000 + rounds[-1]] * len(edgert.load(path).manifest["steps"])

    result = tune(str(model), TARGET, trials=TRIALS, output=str(tmp_path / "r.json"), measure=measure)
    assert result.changed == 0
    assert result.best == result.default


def test_a_compile_takes_what_was_measured_on_this_machine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGERT_CACHE", str(tmp_path))
    done = CliRunner().invoke(main, ["tune", str(model), "--target", TARGET, "--trials", "2", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert Path(said["path"]) == tmp_path / "records" / f"{TARGET}.json"
    records = Records(get_target(TARGET))
    report = edgert.compile(model, tmp_path / "m.edge", target=TARGET)
    chosen = [r["config"] for r in records.found.values() if set(r["config"]) >= {"mr", "nr"} and r["us"] > 0]
    kernels = " ".join(step["kernel"] for step in report.manifest["steps"])
    assert said["kernels"] == 3
    assert said["changed"] == 0 or any(f"{c['mr']}x{c['nr']}" in kernels for c in chosen)


def port() -> int:
    """A free port of this machine."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def started(*words: str) -> subprocess.Popen[bytes]:
    """A Python process with its children in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    """It and its children, at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


@pytest.fixture
def farm() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A tracker's address, and the processes of two measuring servers that it knows."""
    pytest.importorskip("tornado", reason="TVM's tracker needs tornado (pip: edgert[farm])")
    address = f"127.0.0.1:{port()}"
    host, number = address.split(":")
    words = ("--host", host, "--port", number, "--port-end", str(int(number) + 1), "--silent")
    processes = [started("-m", "tvm.exec.rpc_tracker", *words)]
    try:
        processes += [started("-m", "edgert.tuning.server", "--tracker", address, "--key", TARGET) for _ in range(2)]
        end, devices = time.monotonic() + 120, 0
        while devices < 2 and time.monotonic() < end:
            time.sleep(0.3)
            try:
                devices = Farm(address, TARGET).devices
            except UsageError:
                continue
        assert devices == 2, "the servers did not come up"
        yield address, processes[1:]
    finally:
        for process in processes:
            kill(process)


@pytest.mark.slow
def test_a_farm_shares_the_rounds_and_a_device_that_dies_loses_nothing(
    farm: tuple[str, list[subprocess.Popen[bytes]]], model: Path, tmp_path: Path
) -> None:
    address, servers = farm
    seen: list[int] = []

    def progress(_: str, done: int, of: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            kill(servers[0])  # while other rounds are on their way

    file = tmp_path / "r.json"
    result = tune(str(model), TARGET, tracker=address, trials=6, output=str(file), progress=progress)
    assert result.devices == 2
    assert sorted(seen) == list(range(1, result.rounds + 1))  # every round was measured once
    assert len(json.loads(file.read_text())) == result.kernels == 3
    with pytest.raises(UsageError, match=f"no device of the kind 'cortex-a76': there are {TARGET}"):
        Farm(address, "cortex-a76")


def test_wrong_places_are_named(model: Path) -> None:
    with pytest.raises(UsageError, match="host:port"):
        tune(str(model), TARGET, tracker="nowhere")
    with pytest.raises(UsageError, match="no tracker at"):
        tune(str(model), TARGET, tracker=f"127.0.0.1:{port()}")
    with pytest.raises(UsageError, match="give one"):
        tune(str(model), TARGET, tracker="a:1", device="opencl://0")
    with pytest.raises(UsageError, match="leave --tracker out"):
        tune(str(model), "cortex-m4", tracker="a:1")


def test_every_step_has_a_time(model: Path, tmp_path: Path) -> None:
    edgert.compile(model, tmp_path / "m.edge", target=TARGET, golden=False)
    taken = here(tmp_path / "m.edge", runs=1)
    assert len(taken) == len(edgert.load(tmp_path / "m.edge").manifest["steps"])
    assert all(ns > 0 for ns in taken)
