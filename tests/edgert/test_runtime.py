"""The C runtime by itself: exact loops, ordered memory, no allocation in a run, no thread at work when idle."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgert
from edgert.native.build import SOURCES, zig_cc
from tests.edgert import fake_artifact as fake

POOL = [str(fake.NATIVE / name) for name in SOURCES]


def _stress(folder: Path, *flags: str) -> str:
    program = folder / "stress"
    include = ["-I", str(fake.NATIVE)]
    zig_cc([*flags, "-std=c11", *include, str(fake.HERE / "pool_stress.c"), *POOL, "-lpthread", "-o", str(program)])
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


def test_every_iteration_runs_once(tmp_path: Path) -> None:
    assert _stress(tmp_path, "-O2") == "right\n"


@pytest.mark.slow
def test_no_data_race(tmp_path: Path) -> None:
    """ThreadSanitizer ends the program with an error when it sees one."""
    assert _stress(tmp_path, "-O1", "-g", "-fsanitize=thread", "-DROUNDS=30") == "right\n"


def test_a_run_allocates_nothing(tmp_path: Path, fake_path: Path) -> None:
    library = tmp_path / "count.so"
    zig_cc(["-O1", "-fPIC", "-shared", f"-I{fake.NATIVE}", str(fake.HERE / "count_alloc.c"), "-o", str(library)])
    command = [sys.executable, "-m", "tests.edgert.count_alloc", str(library), str(fake_path)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=fake.HERE.parents[1]
    )
    assert done.returncode == 0, done.stderr
    counted = dict(line.split() for line in done.stdout.splitlines())
    assert int(counted["loading"]) > 100  # the counter counts
    assert {name: calls for name, calls in counted.items() if name != "loading"} == {"1": "0", "3": "0", "profile": "0"}


def test_idle_threads_sleep(fake_path: Path) -> None:
    """After a run the workers may spin for a moment, then the kernel must find them asleep and charge them nothing."""
    with edgert.load(fake_path, threads=6) as model:
        for _ in range(20):
            model.run(fake.make_inputs(fake.ROWS))
        workers = [task for task in Path("/proc/self/task").iterdir() if (task / "comm").read_text() == "edgert\n"]
        assert len(workers) >= 5
        for _ in range(200):
            if all(_state(task) == "S" for task in workers):
                break
            time.sleep(0.05)
        before = [_ticks(task) for task in workers]
        time.sleep(0.3)
        assert [_state(task) for task in workers] == ["S"] * len(workers)
        assert [_ticks(task) for task in workers] == before


def _stat(task: Path) -> list[str]:
    return (task / "stat").read_text().rpartition(")")[2].split()


def _state(task: Path) -> str:
    return _stat(task)[0]


def _ticks(task: Path) -> tuple[int, int]:
    return int(_stat(task)[11]), int(_stat(task)[12])


def test_a_pool_is_made_once_per_thread_count() -> None:
    library = edgert.native.library.runtime()
    get = library.edgert_rt_get
    assert get(3) == get(3) != get(2)
    assert get(1) is None
    assert ctypes.sizeof(ctypes.c_void_p) == 8
