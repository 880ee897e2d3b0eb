"""Inputs have a place in the arena, which is theirs until they have been read; they may as well lie elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgert
from edgert.interface.counted import count
from tests.mcu import nets
from tests.models.quantized import shared


def test_their_place_is_kept(tiny: Path, tmp_path: Path) -> None:
    manifest = edgert.compile(tiny, tmp_path / "m4.edge", target="cortex-m4", golden=False).manifest
    (port,) = manifest["inputs"]
    (mine,) = [entry for entry in manifest["plan"] if entry["name"] == port["name"]]
    assert (mine["offset"], mine["first"]) == (port["offset"], 0)
    assert port["bytes"] == nets.samples(1)[0]["image"].nbytes <= mine["size"]
    for other in manifest["plan"]:
        if other is not mine and other["first"] <= mine["last"]:
            apart = other["offset"] >= mine["offset"] + mine["size"], mine["offset"] >= other["offset"] + other["size"]
            assert any(apart), other


def test_the_header_tells(tiny: Path, tmp_path: Path) -> None:
    edgert.compile(tiny, tmp_path / "lib", target="cortex-m4", emit="lib", golden=False)
    assert "#define TINY_INPUT_IMAGE_OFFSET " in (tmp_path / "lib" / "tiny.h").read_text()


@pytest.mark.parametrize(("net", "most"), [("kws/kws_qdq_int8", 15_847), ("vww/vww_96_qdq_int8", 66_474)])
def test_ram_beside_an_interpreter(net: str, most: int, tmp_path: Path) -> None:
    """At most 0.65 of the RAM that TFLite Micro takes for the same networks, without --ram."""
    model = shared(f"models/{net}.onnx")
    edgert.compile(model, tmp_path / "m4.elf", target="cortex-m4", emit="elf", io="quantized", golden=False)
    assert count(str(tmp_path / "m4.elf"), "sim://cortex-m4").ram_bytes <= most
