"""Devices on bad days: a clear error or a slower right answer, never a wrong one, and no thread or file left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import budget, runner
from edgert.errors import EdgertError
from edgert.native import sources
from flashload.profile import FlashProfile
from tests.flashload import faulty
from tests.flashload.networks import WIDTH, mlp
from tests.flashload.test_stream import planned

X = np.random.default_rng(5).normal(size=(3, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def right() -> np.ndarray:
    with edgert.load(mlp(), threads=1) as model:
        return model.run({"x": X})["y"]


@pytest.fixture(scope="module")
def place() -> int:
    """A byte of the file that every run reads."""
    with edgert.load(mlp()) as model:
        return model.artifact.weights_offset + model.artifact.spec.weights_bytes * 2 // 3


def readers() -> int:
    names = [Path(task, "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return names.count("edgert-read")


@contextmanager
def streaming(source: faulty.Open, pinned: float = 0.0) -> Iterator[runner.Model]:
    before = readers()
    with planned(runner.load(mlp(), 1, dram="64G", source=source), pinned, 1 << 20) as model:
        yield model
    assert readers() == before


@pytest.mark.parametrize("kind", [faulty.SHORT, faulty.INTERRUPTED, faulty.AGAIN])
def test_reads_that_come_in_parts_or_not_at_once_are_asked_for_again(right: np.ndarray, kind: int) -> None:
    source = faulty.Faulty(kind)
    with streaming(source) as model:
        for _ in range(3):
            np.testing.assert_array_equal(model.run({"x": X})["y"], right)
        assert model.memory is not None
        assert source.calls > model.memory.figures()["reads"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (faulty.EIO_AT, r"weights at byte \d+ of the file: Input/output error"),
        (faulty.END_AT, r"weights at byte \d+ of the file: the file ends there"),
        (faulty.FLIP_AT, r"segment \d+ of the weights, at byte \d+ of the file, is damaged"),
    ],
)
@pytest.mark.parametrize("pinned", [0.0, 1.0])
def test_what_cannot_be_read_fails_with_its_place(place: int, kind: int, words: str, pinned: float) -> None:
    with streaming(faulty.Faulty(kind, place), pinned) as model:
        for _ in range(2):
            with pytest.raises(EdgertError, match=r"mlp\.edge: " + words):
                model.run({"x": X})


def test_a_bad_moment_passes(right: np.ndarray, place: int) -> None:
    # three times: the reader asks again when a file seems to end, in case it grows
    for kind, times in ((faulty.EIO_AT, 1), (faulty.END_AT, 3), (faulty.FLIP_AT, 1)):
        source = faulty.Faulty(kind, place, times)
        with streaming(source) as model:
            answers = []
            for _ in range(6):
                try:
                    answers.append(model.run({"x": X})["y"])
                except EdgertError:
                    continue
            assert source.met == times
            assert len(answers) >= 5
            for answer in answers:
                np.testing.assert_array_equal(answer, right)


def test_a_device_that_stalls_is_waited_for(right: np.ndarray, place: int) -> None:
    with streaming(faulty.Faulty(faulty.STALL_AT, place, 1)) as model:
        start = time.perf_counter()
        np.testing.assert_array_equal(model.run({"x": X})["y"], right)
        assert time.perf_counter() - start >= 2
        assert model.memory is not None
        assert model.memory.figures()["wait_ns"] >= 1_500_000_000


def test_a_device_that_stalls_too_long_fails_and_ends(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "TIMEOUT_MS", 200)
    with (
        streaming(faulty.Faulty(faulty.STALL_AT, place, 1)) as model,
        pytest.raises(
            EdgertError, match=r"segment \d+ of the weights, at byte \d+ of the file, did not come within 0\.2 s"
        ),
    ):
        model.run({"x": X})


def test_a_disk_ten_times_slower_than_planned_for_gives_the_same(right: np.ndarray) -> None:
    def throttled(rate: float) -> tuple[float, int]:
        profile = FlashProfile("slow", {(4096, 1): rate})
        with streaming(lambda path: sources.throttled(path, profile)) as model:
            model.run({"x": X})
            assert model.memory is not None
            before, start = model.memory.figures()["read_bytes"], time.perf_counter()
            np.testing.assert_array_equal(model.run({"x": X})["y"], right)
            return time.perf_counter() - start, model.memory.figures()["read_bytes"] - before

    for rate in (100e6, 10e6):
        seconds, read = throttled(rate)
        # what was read ahead before the clock started, and the throttle's credit, do not count; slower is always right
        assert seconds >= (read - (1 << 20)) / rate * 0.9 - 0.01, (rate, seconds, read)


def test_a_throttle_reads_as_fast_as_the_device_it_is_of() -> None:
    """Bytes a second by block size, from below: how much faster it can be is certain, how much slower is not."""
    profile = FlashProfile("two", {(4096, 1): 2e6, (65536, 1): 40e6})
    with streaming(lambda path: sources.throttled(path, profile)) as model:
        model.run({"x": X})
        assert model.memory is not None
        figures = model.memory.figures()
    seconds = time.perf_counter()
    with streaming(lambda path: sources.throttled(path, profile)) as model:
        model.run({"x": X})
    seconds = time.perf_counter() - seconds
    assert seconds >= figures["read_bytes"] / 40e6 * 0.6


def test_a_kill_leaves_nothing_behind(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from edgert import runner
from tests.flashload.test_stream import planned
model = planned(runner.load({str(mlp())!r}, 2, dram="64G"), 0.0, 1 << 20)
x = np.zeros((3, {WIDTH}), np.float32)
while True:
    model.run({{"x": x}})
    print("ran", flush=True)
"""
    shared = set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()
    beside = set(mlp().parent.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ran\n"
    process.send_signal(signal.SIGKILL)
    process.stdout.read()  # ends when the last of its threads has closed it
    assert process.wait(10) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
    assert set(mlp().parent.iterdir()) == beside
    if Path("/dev/shm").is_dir():
        assert not [name for name in set(os.listdir("/dev/shm")) - shared if "edgert" in name]
