"""What must be sent: the pieces rebuild the new file from the old one, from any byte on."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.artifact import Artifact
from edgert.deploy.delta import Old, messages, pieces
from tests.deploy.conftest import SEGMENT, write
from tests.native.conftest import program  # noqa: F401  the runner, as a fixture


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, fake_code: Path) -> tuple[Artifact, Artifact]:
    """Two artifacts that differ in a segment, and in where members lie."""
    folder = tmp_path_factory.mktemp("pair")
    old, new = (
        write(folder / "old.edge", fake_code),
        write(folder / "new.edge", fake_code, changed=4, name="longer" * 300),
    )
    return Artifact.open(old), Artifact.open(new)


def known(artifact: Artifact) -> Old:
    return Old(artifact.manifest, {name: [entry.data, entry.size] for name, entry in artifact._entries.items()})


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_pieces_are_the_new_file(pair: tuple[Artifact, Artifact], data: st.DataObject) -> None:
    old, new = pair
    skip = data.draw(st.integers(0, len(new.file)))
    found = io.BytesIO()
    for piece in pieces(new, known(old), skip):
        assert piece.at == skip + found.tell()
        source, at = (new, piece.at) if piece.source is None else (old, piece.source)
        found.write(source.file[at : at + piece.size])
    assert found.getvalue() == bytes(new.file[skip:])


def test_little_is_sent_and_all_without_an_old_one(pair: tuple[Artifact, Artifact]) -> None:
    old, new = pair
    sent = sum(piece.size for piece in pieces(new, known(old)) if piece.source is None)
    assert SEGMENT < sent < SEGMENT + 20_000
    assert [(p.at, p.size, p.source) for p in pieces(new, None)] == [(0, len(new.file), None)]
    assert pieces(new, known(old), len(new.file)) == []


def test_the_runner_assembles(tmp_path: Path, pair: tuple[Artifact, Artifact], program: Path) -> None:  # noqa: F811
    """In two goes, the first cut in the middle of a piece."""
    old, new = pair
    part = tmp_path / "new.part"
    stream = b"".join(messages(new, pieces(new, known(old))))
    cut = subprocess.run(
        [program, "--assemble", part, old.path, "0"], input=stream[: len(stream) // 2], capture_output=True, check=False
    )
    assert cut.returncode == 1 and cut.stderr == b"edgert-run: the transfer broke off\n"
    there = part.stat().st_size
    assert 0 < there < len(new.file) and part.read_bytes() == bytes(new.file[:there])
    there -= 1000  # more had arrived when the first said so
    rest = b"".join(messages(new, pieces(new, known(old), there)))
    subprocess.run([program, "--assemble", part, old.path, str(there)], input=rest, check=True)
    assert part.read_bytes() == bytes(new.file)
