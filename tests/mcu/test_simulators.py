"""Firmware on simulated cores gives the laptop's answers to the bit; unicorn and QEMU agree; counts are exact."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.interface.counted import count
from edgert.interface.simulated import open_simulated
from targets.devices.registry import cores
from targets.devices.simulator import Run
from tests.mcu import nets
from tests.mcu.conftest import Firmware
from tests.models.quantized import SHARED, shared

BY_UNICORN = sorted(set(cores()) - {"cortex-m55"})
BY_QEMU = sorted(set(cores()) - {"cortex-m0plus"})


def on_laptop(model: Path, folder: Path, inputs: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    edgert.compile(model, folder / "laptop.edge", golden=False)
    with edgert.load(folder / "laptop.edge", threads=1) as loaded:
        return [next(iter(loaded.run(feeds).values())).copy() for feeds in inputs]


def on_device(
    path: Path, uri: str, inputs: list[dict[str, np.ndarray]], **options: bool
) -> tuple[list[np.ndarray], list[Run]]:
    outputs, costs = [], []
    with open_simulated(str(path), uri) as model:
        for made in model.run_all(list(inputs), **options):
            assert model.last is not None
            outputs.append(next(iter(made.values())))
            costs.append(model.last)
    return outputs, costs


def need_qemu(core: str) -> None:
    if shutil.which("qemu-system-riscv32" if core == "riscv32imac" else "qemu-system-arm") is None:
        pytest.skip("QEMU is not installed")


@pytest.mark.parametrize("core", BY_UNICORN)
def test_answers_are_the_laptops_to_the_bit(core: str, tiny: Path, firmware: Firmware, tmp_path: Path) -> None:
    inputs = nets.samples(3)
    outputs, costs = on_device(firmware(core), f"sim://{core}", inputs, profile=True, check_alignment="m0" in core)
    for got, want in zip(outputs, on_laptop(tiny, tmp_path, inputs), strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
    for cost in costs:
        assert sum(cost.steps) == cost.instructions


@pytest.mark.apt
@pytest.mark.parametrize("core", BY_QEMU)
def test_qemu_agrees(core: str, tiny: Path, firmware: Firmware, tmp_path: Path) -> None:
    need_qemu(core)
    inputs = nets.samples(2)
    outputs, costs = on_device(firmware(core), f"sim://{core}?by=qemu", inputs, profile=True)
    assert sum(costs[0].steps) == costs[0].instructions and all(step > 0 for step in costs[0].steps)
    for got, want in zip(outputs, on_laptop(tiny, tmp_path, inputs), strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
    if core in BY_UNICORN:
        _, exact = on_device(firmware(core), f"sim://{core}?by=unicorn", inputs, profile=True)
        # the harness's clock also sees the instructions of the call, and ticks are not whole instructions
        for rough, cost in zip(costs, exact, strict=True):
            assert abs(rough.instructions - cost.instructions) < 40
        for rough_step, step in zip(costs[0].steps[:-1], exact[0].steps[:-1], strict=True):
            assert abs(rough_step - step) <= 2
        for rough, cost in zip(costs, exact, strict=True):
            assert (rough.stack_bytes, rough.arena_bytes) == (cost.stack_bytes, cost.arena_bytes)


@pytest.mark.parametrize("core", [core for core in BY_UNICORN if not cores()[core].fma])
def test_keywords_without_an_fpu(core: str, tmp_path: Path) -> None:
    model, path = shared("models/kws/kws_qdq_int8.onnx"), tmp_path / "device.elf"
    feeds = [{"input_1": np.random.default_rng(i).standard_normal((1, 490)).astype(np.float32) * 30} for i in range(2)]
    edgert.compile(model, path, target=core, emit="elf", golden=False)
    outputs, costs = on_device(path, f"sim://{core}", feeds, check_alignment="m0" in core)
    for got, want in zip(outputs, on_laptop(model, tmp_path, feeds), strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
    if "m0" in core:
        assert all(cost.accesses > 1_000_000 for cost in costs)  # none of them unaligned


@pytest.mark.slow
@pytest.mark.parametrize("core", sorted(cores()))
def test_keywords_and_persons(core: str, tmp_path: Path) -> None:
    if core == "cortex-m55":
        need_qemu(core)
    # without an FPU and DSP instructions a picture takes up to seven seconds: fewer, unless more are asked for
    asked = os.environ.get("EDGERT_MCU_PICTURES")
    pictures = int(asked) if asked else 8 if cores()[core].fma else 2
    keywords = (np.random.default_rng(7).standard_normal((8, 1, 490)) * 30).astype(np.float32)
    images = np.load(shared("data/vww/vww_500.npz"))["images"][:pictures]
    persons = np.float32(images.transpose(0, 3, 1, 2)[:, None]) / 255
    for name, inputs in (("kws/kws_qdq_int8", keywords), ("vww/vww_96_qdq_int8", persons)):
        model, path = SHARED / "models" / f"{name}.onnx", tmp_path / "device.elf"
        feeds = [{"input_1": array} for array in inputs]
        edgert.compile(model, path, target=core, emit="elf", golden=False)
        outputs, _ = on_device(path, f"sim://{core}", feeds)
        for got, want in zip(outputs, on_laptop(model, tmp_path, feeds), strict=True):
            assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("given", ["model.onnx", "model.elf", "artifact.elf"])
def test_what_is_counted_may_be_a_model_firmware_or_an_artifact_of_any_name(
    given: str, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / given
    if given.startswith("model.onnx"):
        path.write_bytes(tiny.read_bytes())
    else:
        edgert.compile(tiny, path, target="cortex-m4", emit="elf" if given.startswith("model") else "edge")
    counted = count(str(path), "sim://cortex-m4")
    assert counted.instructions > counted.macs > 0
