"""Metal and WebGPU shaders: source that nothing here runs, but for WGSL where wgpu finds an adapter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import edgert
from edgert.cli import main
from edgert.errors import UnsupportedModel, UsageError
from tests.opencl.graphs import graph
from tests.shaders import wgsl

OPENCL_ONLY = re.compile(r"vload|vstore|convert_|get_group_id|__global|as_uint")
SUFFIXES = {"metal": "metal", "webgpu": "wgsl"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shaders")
    for name in ("convolutions", "attention", "nearest", "linear", "numbers"):
        onnx.save(graph(name), folder / f"{name}.onnx")
    return folder


def emitted(sources: Path, name: str, target: str) -> Path:
    """The folder of a model's shaders."""
    out = sources / f"{name}-{target}"
    if not out.exists():
        shapes = {"x": (1, 17, 24)} if name == "attention" else {}
        edgert.compile(sources / f"{name}.onnx", out, target=target, emit="source", shapes=shapes)
    return out


@pytest.mark.parametrize("name", ["convolutions", "attention"])
@pytest.mark.parametrize("target", SUFFIXES)
def test_every_launch_has_its_source_and_its_bytes(sources: Path, name: str, target: str) -> None:
    folder = emitted(sources, name, target)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device"]["api"] == target
    assert (folder / "weights.bin").stat().st_size == manifest["weights_bytes"]
    assert len(manifest["device"]["launches"]) == len(manifest["steps"])
    sizes = {"arena": manifest["arena_bytes"], "weights": manifest["weights_bytes"]}
    for launch in manifest["device"]["launches"]:
        text = (folder / "kernels" / f"{launch['kernel']}.{SUFFIXES[target]}").read_text()
        assert re.search(rf"\b(kernel void|fn) {launch['kernel']}\(", text)
        assert not OPENCL_ONLY.search(text)
        assert launch["items"] > 0 and launch["dims"] == 0
        for memory, _, at in launch["buffers"]:
            assert at % (256 if target == "webgpu" else 4) == 0 and (memory == "io" or at < sizes[memory])


@pytest.mark.apt
@pytest.mark.parametrize("name", ["convolutions", "attention", "nearest"])
def test_wgsl_gives_onnx_runtimes_answers(sources: Path, name: str) -> None:
    adapter = wgsl.adapter()
    if adapter is None:
        pytest.skip("no WebGPU adapter (pip: wgpu, apt: mesa-vulkan-drivers)")
    folder = emitted(sources, name, "webgpu")
    given, wanted = ({p.stem: np.load(p) for p in (folder / "golden" / s).glob("*.npy")} for s in ("in", "out"))
    got = wgsl.run(folder, adapter, given)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():  # float32 sums of some hundred terms, and functions good to some ulp
        np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-5 * np.ptp(value))


def test_what_shaders_cannot_have_is_named(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"webgpu has no kernel for .*Cast"):  # 64-bit integers
        edgert.compile(sources / "numbers.onnx", tmp_path / "n", target="webgpu", emit="source")
    with pytest.raises(UnsupportedModel, match=r"static shapes, and length is open"):
        dims = {"length": (1, 9)}
        edgert.compile(sources / "attention.onnx", tmp_path / "n", target="metal", emit="source", dims=dims)
    with pytest.raises(UsageError, match=r"--emit edge: for metal there are source"):
        edgert.compile(sources / "convolutions.onnx", tmp_path / "n", target="metal")
    with pytest.raises(UsageError, match=r"--emit source: for opencl there are edge"):
        edgert.compile(sources / "convolutions.onnx", tmp_path / "n", target="opencl", emit="source")
    assert list(tmp_path.iterdir()) == []


def test_what_the_code_generator_refuses_is_one_line(sources: Path, tmp_path: Path) -> None:
    command = ["compile", f"{sources}/linear.onnx", "-o", f"{tmp_path}/n", "--target", "webgpu", "--emit", "source"]
    done = CliRunner().invoke(main, command)  # its coordinates are computed in float64
    assert done.exit_code == 3
    assert re.fullmatch(r"edgert: Resize \S+: webgpu has no kernel for this form, .*f16 or f32\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_targets_are_listed_as_source_only() -> None:
    listed = json.loads(CliRunner().invoke(main, ["targets", "--json"]).output)["targets"]
    found = {t["name"]: t for t in listed}
    assert {name for name, t in found.items() if t["source_only"]} == {"metal", "webgpu"}
    assert not any(found[name]["runs_here"] for name in SUFFIXES)
    assert "source only" in CliRunner().invoke(main, ["targets"]).output
