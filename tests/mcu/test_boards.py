"""Board files: the project's own, and wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets.boards import all_boards, get_board
from targets.devices.registry import cores
from targets.errors import UsageError

FLASH = '[[memory]]\nname = "FLASH"\nkind = "flash"\norigin = 0\nlength = 0x10000\n'
RAM = '[[memory]]\nname = "RAM"\nkind = "ram"\norigin = 0x20000000\nlength = 0x8000\n'
HEAD = 'core = "cortex-m4"\nclock_mhz = 64\n'

WRONG = {
    "overlap at 0x20004000": HEAD + FLASH + RAM + RAM.replace("RAM", "MORE").replace("0x20000000", "0x20004000"),
    "no region of kind flash": HEAD + RAM,
    "two regions are called RAM": HEAD + FLASH + RAM + RAM.replace("0x20000000", "0x30000000"),
    "end beyond 32 bits": HEAD + FLASH + RAM.replace("0x20000000", "0xfffff000"),
    "not whole words": HEAD + FLASH + RAM.replace("0x8000", "0x8001"),
    "0 bytes": HEAD + FLASH + RAM.replace("0x8000", "0"),
    "kind 'rom'": HEAD + FLASH.replace('"flash"', '"rom"') + RAM,
    "no identifier": HEAD + FLASH.replace('"FLASH"', '"a b"') + RAM,
    "name, kind, origin and length": HEAD + FLASH.replace("origin", "start") + RAM,
    "no 32-bit number": HEAD + FLASH.replace("= 0\n", "= -4\n") + RAM,
    "core is missing": FLASH + RAM,
    "no [[memory]]": HEAD,
    "unknown key 'cloth'": 'cloth = 1\n' + HEAD + FLASH + RAM,
    "stack is 65536": "stack = 65536\n" + HEAD + FLASH + RAM,
    "clock_mhz is 'fast'": HEAD.replace("64", '"fast"') + FLASH + RAM,
    "not a board file": "]",
}  # fmt: skip


@pytest.mark.parametrize("word", WRONG)
def test_wrong_files_are_refused_with_what_is_wrong(word: str, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(WRONG[word])
    with pytest.raises(UsageError) as error:
        get_board(str(path))
    assert str(error.value).startswith(f"{path}: not a board file: ")
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_right_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("stack = 1024\n" + HEAD + FLASH + RAM)
    board = get_board(str(path))
    assert (board.name, board.core, board.stack) == ("mine", "cortex-m4", 1024)
    assert [(r.name, r.origin, r.length) for r in board.regions] == [("FLASH", 0, 65536), ("RAM", 0x20000000, 32768)]


def test_every_board_has_a_core_and_every_core_a_board() -> None:
    assert {board.core for board in all_boards().values()} == set(cores())
    for core in cores().values():
        assert all_boards()[core.board].core == core.name


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(UsageError, match="nrf52840"):
        get_board("nrf52841")
    with pytest.raises(UsageError, match="cannot be read"):
        get_board("absent.toml")
