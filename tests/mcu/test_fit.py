"""What does not fit is refused with a table and exit code 4, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgert
from edgert.errors import DoesNotFit, UnsupportedModel, UsageError
from edgert.mcu.fit import uses
from edgert.placing import Placing
from targets.boards import all_boards
from targets.devices.firmware import Firmware
from targets.devices.registry import cores
from tests.cli.conftest import Edgert
from tests.cli.conftest import edgert as command
from tests.mcu.conftest import Firmware as Compiled

__all__ = ["command"]


def test_the_table_is_what_the_linker_placed(firmware: Compiled) -> None:
    elf = firmware("cortex-m4").read_bytes()
    board = all_boards()["mps2-an386"]
    flash, ram = uses(elf, board)
    loaded = sum(len(data) for _, data in Firmware.read(elf).segments)
    assert flash.need - loaded in range(16)  # what aligning the weights leaves
    assert sum(flash.parts.values()) <= flash.need
    assert sum(ram.parts.values()) <= ram.need <= sum(ram.parts.values()) + 48
    assert ram.parts["stack"] == board.stack


@pytest.mark.parametrize(("option", "least"), [("--flash", "4K"), ("--ram", "2K"), ("--ram", "3K")])
def test_too_little_is_refused_with_a_table(
    option: str, least: str, command: Edgert, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.elf"
    result = command("compile", tiny, "--target", "cortex-m4", "--emit", "elf", "-o", out, option, least)
    assert result.exit_code == 4, result.stderr
    assert "does not fit" in result.stderr
    if option == "--flash":
        for word in ("FLASH: ", "code", "weights", "of 4,096 bytes", "try: "):
            assert word in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_fits_exactly_fits_and_a_byte_less_does_not(tiny: Path, tmp_path: Path) -> None:
    def build(flash: int | None) -> bytes:
        out = tmp_path / "tiny.elf"
        edgert.compile(tiny, out, target="cortex-m4", emit="elf", golden=False, placing=Placing(flash=flash))
        return out.read_bytes()

    need = uses(build(None), all_boards()["mps2-an386"])[0].need
    need += -need % 4
    build(need)
    with pytest.raises(DoesNotFit):
        build(need - 4)


def test_every_board_links_a_small_model(tiny: Path, tmp_path: Path) -> None:
    for name, board in all_boards().items():
        edgert.compile(
            tiny, tmp_path / "tiny.elf", target=board.core, emit="elf", golden=False, placing=Placing(board=name)
        )
        firmware = Firmware.read((tmp_path / "tiny.elf").read_bytes())
        for address, data in firmware.segments:
            assert any(r.origin <= address and address + len(data) <= r.end for r in board.of_kind("flash")), name
        vectors = firmware.sections[".vectors"][0]
        assert vectors == board.of_kind("flash")[0].origin, name


def test_wrong_use(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    with pytest.raises(UsageError, match="cortex-m7"):
        edgert.compile(tiny, out, target="cortex-m4", emit="elf", placing=Placing(board="stm32f746-disco"))
    with pytest.raises(UsageError, match="--board is for microcontrollers"):
        edgert.compile(tiny, out, placing=Placing(board="nrf52840"))
    with pytest.raises(UsageError, match="elf, lib"):
        edgert.compile(tiny, out, target="cortex-m4", emit="exe")
    with pytest.raises(UsageError, match="has 262144 in RAM"):
        edgert.compile(tiny, out, target="cortex-m4", emit="elf", ram=1 << 20, placing=Placing(board="nrf52840"))
    assert not out.exists()


def test_open_dimensions_are_refused(tmp_path: Path) -> None:
    from tests.cli.models import relu, save

    model = save(tmp_path / "open.onnx", [relu("x", "y")], shape=("rows", 3))
    with pytest.raises(UnsupportedModel, match="rows is open"):
        edgert.compile(model, tmp_path / "x.elf", target="cortex-m4", emit="elf", dims={"rows": (1, 4)})


def test_all_cores_are_known() -> None:
    assert len(cores()) == 7
