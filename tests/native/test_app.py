"""The library for applications: the example in C gives the Python runner's answers, errors return, nothing leaks."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.interface.runner import write_runner
from edgert.native.build import zig_cc
from edgert.native.runner import LIBRARY_SOURCES
from tests.edgert import fake_artifact as fake

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify.c"


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "sdk"
    assert write_runner(str(folder), emit="lib").file == str(folder / "libedgert-run.so")
    return folder


def test_the_example(tmp_path: Path, sdk: Path, fake_path: Path) -> None:
    flags = ["-std=c11", "-Wall", "-Werror", f"-I{sdk}", f"-Wl,-rpath,{sdk}"]
    zig_cc([*flags, str(EXAMPLE), str(sdk / "libedgert-run.so"), "-o", str(tmp_path / "classify")])
    inputs = fake.make_inputs(fake.ROWS) | {"y": np.zeros((fake.ROWS, 4), np.float32)}
    inputs["x"].tofile(tmp_path / "x.f32")
    done = subprocess.run(
        [tmp_path / "classify", fake_path, tmp_path / "x.f32"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "fake: arena 16384 bytes, weights 10000 bytes",
        "input x: <f4 [1024, 4]",
        "input y: <f4 [1024, 4]",
    ]
    with edgert.load(fake_path) as model:
        z = model.run(inputs)["z"].reshape(-1)
    assert lines[-1] == f"largest: [{z.argmax()}] {z.max():.9g}"
    bad = subprocess.run([tmp_path / "classify", EXAMPLE], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert bad.stderr.startswith(f"{EXAMPLE}: damaged artifact: its end is missing")


def test_only_the_functions_of_the_header_are_exported(sdk: Path) -> None:
    library = ctypes.CDLL(str(sdk / "libedgert-run.so"))
    for name in ("open", "info", "input", "output", "run", "close"):
        assert hasattr(library, f"edgert_{name}")
    for name in ("fail", "anonymous", "edgert_pool_run", "json_read", "run_once"):
        assert not hasattr(library, name)


def test_the_documents_list_of_sources_is_whole() -> None:
    text = (EXAMPLE.parents[1] / "docs" / "apps.md").read_text()
    named = {word for word in text.split() if word.endswith(".c") and "/" not in word}
    assert named == set(LIBRARY_SOURCES)


def maps() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def test_errors_return_and_nothing_is_left_behind(tmp_path: Path, sdk: Path, fake_path: Path) -> None:
    library = ctypes.CDLL(str(sdk / "libedgert-run.so"))
    message, model = ctypes.create_string_buffer(512), ctypes.c_void_p()
    broken = bytearray(fake_path.read_bytes())
    broken[9000] ^= 1
    (tmp_path / "broken.edge").write_bytes(broken)

    def open_(path: Path) -> int:
        return int(library.edgert_open(str(path).encode(), None, ctypes.byref(model), message))

    for _ in range(3):  # the pool's threads are made once
        assert open_(fake_path) == 0
        library.edgert_close(model)
    before = maps()
    for _ in range(20):
        assert open_(tmp_path / "none.edge") == 2 and b"No such file" in message.value
        assert open_(tmp_path / "broken.edge") == 1 and b"does not match its SHA-256" in message.value
        assert not model
        assert open_(fake_path) == 0
        library.edgert_close(model)
    assert maps() <= before + 2
