"""Models on an OpenCL device (PoCL's, in development): answers of ONNX Runtime, one trip to the device and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import edgert
from edgert.artifact import Artifact
from edgert.cli import main
from edgert.errors import DoesNotFit, EdgertError, UnsupportedModel, UsageError
from edgert.manifest import parse
from edgert.opencl.device import Device
from edgert.opencl.model import OpenClModel
from tests.llm.small_models import gguf
from tests.opencl.graphs import feeds, graph

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Gives the artifact of a small model by name; the model lies beside it."""
    folder = tmp_path_factory.mktemp("opencl")

    def artifact(name: str, target: str = "opencl") -> Path:
        path = folder / f"{name}-{target}.edge"
        if not path.exists():
            onnx.save(graph(name), folder / f"{name}.onnx")
            dims = {"length": (1, 40)} if name == "attention" else {}
            edgert.compile(folder / f"{name}.onnx", path, target=target, dims=dims)
        return path

    return artifact


def check(path: Path, model: OpenClModel, given: dict[str, np.ndarray]) -> None:
    """Against ONNX Runtime: float32 sums of some hundred terms, in another order, and functions good to 2 ulp."""
    source = path.with_name(path.name.rsplit("-", 1)[0] + ".onnx")
    session = onnxruntime.InferenceSession(source)
    names = [o.name for o in session.get_outputs()]
    for name, wanted in zip(names, session.run(names, given), strict=True):
        found = model.run(given)[name]
        assert found.dtype == wanted.dtype
        if wanted.dtype == np.float32:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
        else:
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["convolutions", "images", "attention", "masks", "choices", "numbers"])
def test_answers_are_those_of_onnx_runtime_and_stay_on_the_device(make: Make, name: str) -> None:
    path = make(name)
    with edgert.load(path) as model:
        assert isinstance(model, OpenClModel)
        check(path, model, feeds(path))
        assert model.handovers == 0
        assert model.launches > 0


@pytest.mark.parametrize(("name", "count"), [("attention", 1), ("masks", 2)])
def test_attention_is_one_kernel(make: Make, name: str, count: int) -> None:
    with edgert.load(make(name)) as model:
        steps = [step["op"] for step in model.manifest["steps"]]
    assert steps.count("Attention") == count
    assert "Softmax" not in steps


def test_one_artifact_takes_every_length(make: Make) -> None:
    path = make("attention")
    with edgert.load(path, device="opencl://0") as model:
        for length in (40, 1, 13):
            check(path, model, feeds(path, length))


def test_what_the_device_lacks_runs_on_the_cpu_and_is_said(make: Make, tmp_path: Path) -> None:
    path = make("recurrent")
    report = edgert.compile(path.with_name("recurrent.onnx"), tmp_path / "again.edge", target="opencl")
    assert any("1 of 3 steps run on the CPU" in note and "GRU" in note for note in report.notes)
    with edgert.load(path) as model:
        model.run(feeds(path))
        assert (model.handovers, model.launches) == (1, 2)
        check(path, model, feeds(path))


def test_memory_on_the_device_is_as_planned(make: Make) -> None:
    path = make("convolutions")
    with edgert.load(path) as model:
        spec = model.artifact.spec
        ports = sum(-(-t.bytes // 128) * 128 for t in (*spec.inputs, *spec.outputs))
        assert 0 <= model.device_bytes - spec.weights_bytes - spec.arena_bytes - ports + 128 < 256
        copy = model.clone()
        first, second = model.run(feeds(path)), copy.run(feeds(path))
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_the_second_load_builds_nothing(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(make("choices"), tmp_path / "choices-opencl.edge"))
    shutil.copy(make("choices").with_name("choices.onnx"), tmp_path / "choices.onnx")
    built: list[bool] = []  # whether from source
    build = Device._build
    monkeypatch.setattr(Device, "_build", lambda *a: built.append(bool(a[1])) or build(*a))
    for expected in ([True], [False]):
        built.clear()
        with edgert.load(path) as model:
            check(path, model, feeds(path))
        assert built == expected
    (kept,) = tmp_path.glob("*.clbin")
    damaged = kept.read_bytes()
    for content, expected in ((damaged[:40], [False, True]), (b"\0" * 100, [True])):
        kept.write_bytes(content)
        built.clear()
        with edgert.load(path) as model:
            check(path, model, feeds(path))
        assert built == expected
        assert kept.read_bytes()[:32] == damaged[:32]


def test_what_is_kept_has_nothing_left_to_compile(make: Make, tmp_path: Path) -> None:
    """PoCL compiles for a launch's shape at the first launch, into files of a cache (empty here) that are counted."""
    path = Path(shutil.copy(make("choices"), tmp_path / "m.edge"))
    code = (
        "import sys, edgert, numpy as np; from pathlib import Path\n"
        "model = edgert.load(sys.argv[1])\n"
        "count = lambda: len([*Path(sys.argv[2]).rglob('*.so')])\n"
        "loaded = count()\n"
        "model.run({'x': np.ones((3, 9), np.float32), 'row': np.ones((3, 1), bool)})\n"
        "print(model.launches, loaded, count())"
    )
    found = []
    for load in ("first", "second"):
        environment = {**os.environ, "POCL_CACHE_DIR": str(tmp_path / load), "POCL_WORK_GROUP_SPECIALIZATION": "1"}
        command = [sys.executable, "-c", code, path, tmp_path / load]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append([int(word) for word in done.stdout.split()])
    (launches, before, after), (_, loaded, ran) = found
    if not after:
        pytest.skip("not PoCL")
    assert before == 0 and after >= launches > 0
    assert loaded == ran == after


def test_profile_has_a_time_for_every_step(make: Make) -> None:
    path = make("recurrent")
    with edgert.load(path) as model:
        steps = model.profile(feeds(path))
    assert len(steps) == len(model.manifest["steps"])
    assert all(step["ns"] > 0 for step in steps)


@pytest.mark.parametrize("target", ["opencl-mali", "opencl-adreno"])
def test_phones_get_kernels_of_their_own_sizes(make: Make, target: str) -> None:
    path = make("convolutions", target)
    with zipfile.ZipFile(path) as file:
        manifest, source = json.loads(file.read("manifest.json")), file.read("kernels.cl").decode()
    launches = manifest["device"]["launches"]
    assert all(f"__kernel void {launch['kernel']}(" in source for launch in launches)
    assert {launch["workgroup"] for launch in launches} == {128 if target == "opencl-adreno" else 64}
    with pytest.raises(EdgertError, match="compiled for aarch64"):
        edgert.load(path)


def test_wrong_devices_are_named(make: Make, tmp_path: Path) -> None:
    path = make("choices")
    for uri, words in (("opencl://99", "there are opencl://0"), ("opencl://x", "give the number")):
        with pytest.raises(UsageError, match=words):
            edgert.load(path, device=uri)
    with pytest.raises(UsageError, match="--dram"):
        edgert.load(path, dram="64M")
    onnx.save(graph("choices"), tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "cpu.edge", target="x86-64-avx2")
    with pytest.raises(UsageError, match="not for opencl://0"):
        edgert.load(tmp_path / "cpu.edge", device="opencl://0")
    with pytest.raises(UsageError, match="exe"):
        edgert.compile(tmp_path / "m.onnx", tmp_path / "m", target="opencl", emit="exe")


def test_more_memory_than_a_buffer_holds_is_refused_with_figures(make: Make) -> None:
    device = Device(0)
    with pytest.raises(DoesNotFit, match=r"weights needs .* a buffer of .* holds"):
        device.prepare((), 0, 64, 0, device.info.most_bytes + 1)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("api", "metal", "opencl"),
        ("member", "other.cl", "other.cl is missing"),
        ("kernel", "main", "a kernel's name"),
        ("step", 99, "step"),
        ("workgroup", 1 << 20, "workgroup"),
        ("buffers", [["io", 99, 0]], "whole number"),
        ("buffers", [["weights", 0, 1 << 40]], "whole number"),
        ("buffers", [["disk", 0, 0]], "arena, weights or io"),
    ],
)
def test_hostile_manifests_are_refused(make: Make, key: str, value: object, words: str) -> None:
    manifest = Artifact.open(make("choices")).manifest
    changed = json.loads(json.dumps(manifest))
    entry = changed["device"] if key in ("api", "member") else changed["device"]["launches"][0]
    entry[key] = value
    with pytest.raises(ValueError, match=words):
        parse(changed)


def test_the_command_line_runs_and_verifies_on_the_device(make: Make) -> None:
    path = make("images")
    verified = CliRunner().invoke(main, ["verify", str(path), "--device", "opencl://0"])
    assert verified.exit_code == 0, verified.output
    assert "on opencl://0: right" in verified.output
    assert "opencl://0" in CliRunner().invoke(main, ["devices"]).output


def test_language_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="language models"):
        edgert.compile(gguf(), tmp_path / "m.edge", target="opencl")


def test_a_driver_leaves_the_signals_of_the_process_alone() -> None:
    """PoCL takes SIGFPE and SIGSEGV for itself; a process that crashes has to crash."""
    code = (
        "import os, signal; from edgert.opencl.device import Device, device_count; device_count(); Device(0);"
        "os.kill(os.getpid(), signal.SIGSEGV); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGSEGV, done.stdout


def test_a_run_on_the_cpu_looks_for_no_driver(make: Make, tmp_path: Path) -> None:
    edgert.compile(make("choices").with_name("choices.onnx"), tmp_path / "cpu.edge", target="x86-64-avx2")
    code = (
        "import sys; from edgert.interface.verify import verify; verify(sys.argv[1]);"
        "sys.exit(any(name.startswith('edgert.opencl') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "cpu.edge"], check=False).returncode == 0
