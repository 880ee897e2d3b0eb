"""A damaged artifact is refused by every command that reads one: one line, exit code 1, nothing left behind."""

import random
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Edgert, assert_one_line

COMMANDS = [
    ["run", "--input", "x=zeros", "--input", "y=zeros", "--output", "out"],
    ["verify"],
    ["bench", "--seconds", "0.01"],
]


def refuse_everywhere(edgert: Edgert, folder: Path, content: bytes) -> None:
    path = folder / "damaged.edge"
    path.write_bytes(content)
    for command, *options in COMMANDS:
        assert_one_line(edgert(command, path, *options), 1, "damaged.edge")
    assert [entry.name for entry in folder.iterdir()] == ["damaged.edge"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_cut(edgert: Edgert, fake: Path, folder: Path, percent: int) -> None:
    whole = fake.read_bytes()
    refuse_everywhere(edgert, folder, whole[: len(whole) * percent // 100])


def test_the_last_byte_missing(edgert: Edgert, fake: Path, folder: Path) -> None:
    refuse_everywhere(edgert, folder, fake.read_bytes()[:-1])


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\x7fELF" + bytes(1000), random.Random(0).randbytes(5000), bytes(100_000)]
)
def test_something_else(edgert: Edgert, folder: Path, content: bytes) -> None:
    refuse_everywhere(edgert, folder, content)


def test_a_flipped_bit_in_each_member(edgert: Edgert, fake: Path, folder: Path) -> None:
    whole = fake.read_bytes()
    with zipfile.ZipFile(fake) as archive:
        members = archive.infolist()
    assert {"manifest.json", "code", "weights.bin"} < {member.filename for member in members}
    for member in members:
        name_size = int.from_bytes(whole[member.header_offset + 26 : member.header_offset + 28], "little")
        extra_size = int.from_bytes(whole[member.header_offset + 28 : member.header_offset + 30], "little")
        start = member.header_offset + 30 + name_size + extra_size
        damaged = bytearray(whole)
        damaged[start + member.file_size // 2] ^= 1
        refuse_everywhere(edgert, folder, bytes(damaged))
