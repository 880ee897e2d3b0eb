"""Weights in external flash: the same answers, every byte read once, waiting that grows as the flash slows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.artifact import Artifact
from edgert.interface.simulated import open_simulated
from edgert.native.build import zig_cc
from edgert.placing import Placing
from tests.mcu import nets
from tests.mcu.conftest import Firmware
from tests.mcu.test_simulators import on_device


@pytest.fixture(scope="module")
def external(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("external") / "tiny.edge"
    edgert.compile(tiny, path, target="cortex-m4", placing=Placing(weights_in="external"))
    return path


def test_answers_are_those_of_weights_on_chip(external: Path, firmware: Firmware) -> None:
    inputs = nets.samples(3)
    outputs, costs = on_device(external, "sim://cortex-m4", inputs)
    for got, want in zip(outputs, on_device(firmware("cortex-m4"), "sim://cortex-m4", inputs)[0], strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
    manifest = Artifact.open(external).manifest
    for cost in costs:
        assert 0.8 * manifest["weights_bytes"] < cost.flash_bytes <= 1.5 * manifest["weights_bytes"]


def test_a_slower_flash_is_waited_for_longer(external: Path) -> None:
    stalls = []
    for speed in (1000.0, 20.0, 0.1):
        with open_simulated(str(external), "sim://cortex-m4") as model:
            model.board = replace(model.board, external_mb_s=speed)
            model.run(nets.samples(1)[0])
            assert model.last is not None
            stalls.append(model.last.stalls)
    assert stalls[0] <= stalls[1] < stalls[2]
    # so slow that nearly all of the time is reading: a byte takes 25 MHz / 0.1 MB/s = 250 cycles
    assert model.last.flash_bytes * 250 - model.last.instructions <= stalls[2] <= model.last.flash_bytes * 250


def test_the_library_names_its_driver(tiny: Path, tmp_path: Path) -> None:
    placing = Placing(weights_in="external")
    edgert.compile(tiny, tmp_path / "lib", target="cortex-m4", emit="lib", placing=placing, golden=False)
    names = {path.name for path in (tmp_path / "lib").iterdir()}
    assert {"libtiny.a", "tiny.h", "edgert_flash.h", "tiny_weights.bin"} <= names


@pytest.mark.parametrize(("emit", "header"), [("c", ""), ("cmake", ""), ("zephyr", "include/"), ("arduino", "src/")])
def test_packages_name_their_driver(emit: str, header: str, external: Path, tiny: Path, tmp_path: Path) -> None:
    placing = Placing(weights_in="external")
    manifest = edgert.compile(
        tiny, tmp_path / "tiny", target="cortex-m4", emit=emit, placing=placing, golden=False
    ).manifest
    assert (tmp_path / "tiny" / header / "edgert_flash.h").is_file()
    assert (tmp_path / "tiny" / "tiny_weights.bin").stat().st_size == manifest["weights_bytes"]
    if header:
        return
    assert not (tmp_path / "tiny" / "tiny_weights.c").exists()
    text = (tmp_path / "tiny" / "tiny.c").read_text()
    flags = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-std=c99", "-Wall", "-Wextra", "-Werror"]
    zig_cc([*flags, "-c", "-o", str(tmp_path / "tiny.o"), str(tmp_path / "tiny" / "tiny.c")])
    # the source reads what the firmware's entry reads, and no kernel starts before that is waited for
    reads = [int(size) for size in re.findall(r"edgert_flash_read\(\d+u, memory \+ \d+, (\d+)u\)", text)]
    _, (cost,) = on_device(external, "sim://cortex-m4", nets.samples(1))
    assert sum(reads) == cost.flash_bytes and "_weights +" not in text
    reading: set[str] = set()
    for name, arguments in re.findall(r"^  (edgert_flash_read|edgert_flash_wait|k_\w+)\((.*)\);", text, re.MULTILINE):
        places = set(re.findall(r"memory \+ \d+", arguments))
        assert name.startswith("edgert") or not places & reading
        reading = set() if name == "edgert_flash_wait" else reading | places if name == "edgert_flash_read" else reading
