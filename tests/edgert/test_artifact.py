"""The container: what is written is read back, any tool opens it, and no damage passes."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgert
from edgert import artifact, zipformat
from edgert.artifact import Artifact
from edgert.errors import EdgertError, UsageError
from tests.edgert import fake_artifact as fake


def test_members_are_read_back_aligned(fake_path: Path, fake_code: Path) -> None:
    opened = Artifact.open(fake_path)
    assert bytes(opened.code) == fake_code.read_bytes()
    assert bytes(opened.weights) == fake.make_weights()
    assert opened.weights_offset % 4096 == 0
    assert all(entry.data % 64 == 0 for entry in opened._entries.values())
    inputs, outputs = opened.golden()
    for name, wanted in (inputs | outputs).items():
        np.testing.assert_array_equal(wanted, (fake.make_inputs(8) | fake.expected(fake.make_inputs(8)))[name])
    assert set(outputs) == {"z", "some/positive:0"}
    opened.close()


def test_any_zip_tool_opens_it(fake_path: Path) -> None:
    with zipfile.ZipFile(fake_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert "golden/out/some%2Fpositive%3A0.npy" in archive.namelist()
        assert archive.read("weights.bin") == fake.make_weights()
        array = np.load(io.BytesIO(archive.read("golden/in/x.npy")))
    np.testing.assert_array_equal(array, fake.make_inputs(8)["x"])


def test_zip64_form(tmp_path: Path, fake_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipformat, "ZIP64_FROM", 5000)
    fake.make_artifact(tmp_path / "m.edge", fake_code)
    assert (tmp_path / "m.edge").read_bytes().count(b"PK\x06\x06") == 1
    with zipfile.ZipFile(tmp_path / "m.edge") as archive:
        assert archive.testzip() is None
    inputs = fake.make_inputs(3)
    with edgert.load(tmp_path / "m.edge") as model:
        np.testing.assert_array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])


def test_equal_contents_give_equal_files(tmp_path: Path, fake_code: Path) -> None:
    for name in "ab":
        fake.make_artifact(tmp_path / name, fake_code)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("chunk", [1000, 4096, 5000, 1 << 20])
def test_weights_come_in_chunks_of_any_size(tmp_path: Path, fake_code: Path, chunk: int) -> None:
    weights = fake.make_weights(20_000)
    segments = [{"offset": 0, "size": 4096, "residency": "resident"}]
    segments += [{"offset": 4096, "size": 8192, "residency": "streamed"}]
    segments += [{"offset": 12288, "size": 7712, "residency": "resident"}]
    manifest = fake.make_manifest(len(weights), segments=segments)
    chunks = (weights[at : at + chunk] for at in range(0, len(weights), chunk))
    written = artifact.write(tmp_path / "m.edge", manifest, fake_code.read_bytes(), chunks)
    opened = Artifact.open(tmp_path / "m.edge")
    assert bytes(opened.weights) == weights
    assert opened.manifest == written
    assert opened.spec.resident_bytes == 4096 + 7712


def test_no_weights_at_all(tmp_path: Path, fake_code: Path) -> None:
    artifact.write(tmp_path / "m.edge", fake.make_manifest(0), fake_code.read_bytes(), [])
    with edgert.load(tmp_path / "m.edge") as model:
        assert model.artifact.spec.segments == ()


@pytest.mark.parametrize("size", [9_000, 11_000])
def test_weights_that_do_not_add_up_leave_the_old_file(tmp_path: Path, fake_code: Path, size: int) -> None:
    path = tmp_path / "m.edge"
    path.write_bytes(b"old")
    with pytest.raises(EdgertError, match="weights came than weights_bytes says"):
        artifact.write(path, fake.make_manifest(10_000), fake_code.read_bytes(), [bytes(size)])
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.edge", b"old")]


def test_a_source_of_weights_that_fails_leaves_nothing(tmp_path: Path, fake_code: Path) -> None:
    def chunks() -> object:
        yield bytes(5000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifact.write(tmp_path / "m.edge", fake.make_manifest(10_000), fake_code.read_bytes(), chunks())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_error(tmp_path: Path, fake_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EdgertError, match=r"cannot write .*m\.edge: No space left on device"):
        fake.make_artifact(tmp_path / "m.edge", fake_code)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path, fake_code: Path) -> None:
    with pytest.raises(EdgertError, match=r"cannot write .*: No such file or directory"):
        fake.make_artifact(tmp_path / "none" / "m.edge", fake_code)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK", "it is too short"),
        (np.random.default_rng(0).bytes(50_000), "its end is missing"),
        (b"PK\x05\x06" + bytes(18), "its first member is not the manifest"),
    ],
)
def test_files_that_are_no_artifacts(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.edge").write_bytes(content)
    with pytest.raises(EdgertError, match=rf"m\.edge: damaged artifact: {message}"):
        edgert.load(tmp_path / "m.edge")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        edgert.load(tmp_path / "none.edge")
    with pytest.raises(UsageError, match="not a regular file"):
        edgert.load(tmp_path)


@pytest.mark.parametrize("tenth", range(10))
def test_cut_at_every_tenth(tmp_path: Path, fake_path: Path, tenth: int) -> None:
    whole = fake_path.read_bytes()
    (tmp_path / "m.edge").write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(EdgertError, match="damaged artifact"):
        edgert.load(tmp_path / "m.edge")


def test_something_behind_the_end(tmp_path: Path, fake_path: Path) -> None:
    (tmp_path / "m.edge").write_bytes(fake_path.read_bytes() + b"\0")
    with pytest.raises(EdgertError, match="its end is missing"):
        edgert.load(tmp_path / "m.edge")


def _flip(path: Path, source: Path, bit: int) -> None:
    data = bytearray(source.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_flipped_bit_in_each_member_is_named(tmp_path: Path, fake_path: Path) -> None:
    entries = Artifact.open(fake_path)._entries
    assert len(entries) == 7
    for entry in entries.values():
        for at in (entry.data, entry.data + entry.size // 2, entry.data + entry.size - 1):
            _flip(tmp_path / "m.edge", fake_path, at * 8 + 3)
            with pytest.raises(EdgertError, match=rf"damaged artifact: {entry.name}.* does not match"):
                edgert.load(tmp_path / "m.edge")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, fake_path: Path, data: st.DataObject
) -> None:
    """Headers, padding and directory too: every byte of the file is checked."""
    size = fake_path.stat().st_size
    entries = Artifact.open(fake_path)._entries.values()
    headers = [(entry.header, entry.data) for entry in entries]
    start, stop = data.draw(st.sampled_from([*headers, (max(e.data + e.size for e in entries), size), (0, size)]))
    bit = data.draw(st.integers(start * 8, stop * 8 - 1))
    path = tmp_path_factory.mktemp("flip") / "m.edge"
    _flip(path, fake_path, bit)
    with pytest.raises(EdgertError, match="damaged artifact"):
        edgert.load(path)
    path.unlink()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_overwritten_stretches_give_one_line(
    tmp_path_factory: pytest.TempPathFactory, fake_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(fake_path.read_bytes())
    at = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(len(whole) - 700, len(whole) - 1)))
    new = data.draw(st.binary(min_size=1, max_size=100))
    changed = whole[:at] + new + whole[at + len(new) :]
    path = tmp_path_factory.mktemp("noise") / "m.edge"
    path.write_bytes(changed)
    if changed != whole:
        with pytest.raises(EdgertError) as caught:
            Artifact.open(path)
        assert "\n" not in str(caught.value)
    path.unlink()
