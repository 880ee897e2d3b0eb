"""Every value of a manifest is checked, by writer and reader alike."""

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgert
from edgert import artifact, manifest, zipformat
from edgert.errors import EdgertError
from tests.edgert import fake_artifact as fake


def full(path: Path) -> dict[str, Any]:
    return artifact.Artifact.open(path).manifest


def put(value: Any, path: str, new: Any) -> None:
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parts:
        value = value[part]
    if new is KeyError:
        del value[last]
    else:
        value[last] = new


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("format", 2, "its format is 2 and this edgert reads 1"),
        ("abi", 9, "its abi is 9 and this edgert reads 2"),
        ("format", KeyError, "format is missing"),
        ("format", True, "format is not a whole number"),
        ("arena_bytes", -1, "arena_bytes is not a whole number"),
        ("arena_bytes", 2**63, "arena_bytes is not a whole number"),
        ("arena_bytes", 16384.0, "arena_bytes is not a whole number"),
        ("plan.0.offset", 2**62, "plan[0].offset is not a whole number from 0 to 16384"),
        ("plan.0.size", 16385, "plan[0].size is not a whole number from 0 to 16384"),
        ("weights_bytes", 9999, "segments[0].size is not a whole number from 1 to 9999"),
        ("weights_bytes", 10001, "segments cover 10000 of 10001 bytes"),
        ("segments.0.offset", 64, "segments[0].offset is not 0"),
        ("segments.0.residency", "lost", "segments[0].residency is not resident or streamed"),
        ("segments.0.sha256", "0" * 63, "segments[0].sha256 is not a SHA-256"),
        ("members.code.sha256", "Z" * 64, "members.code.sha256 is not a SHA-256"),
        ("members", [], "members.code is missing"),
        ("members", {}, "members.code is missing"),
        ("dims.0.min", 2000, "dims[0].max is not a whole number from 2000"),
        ("dims", [], "inputs[0].shape[0].slot is not a whole number from 0 to -1"),
        ("dim_slots", 0, "dim_slots is not a whole number from 1"),
        ("inputs.0.shape.0.slot", 1, "inputs[0].shape[0].slot is not a whole number from 0 to 0"),
        ("inputs.0.shape.0.max", 2000, "inputs[0].bytes is not room for the 32000 bytes of its shape"),
        ("inputs.0.shape.0.max", 10, "input 'x' has room for 10"),
        ("inputs.0.dtype", "float31", "inputs[0].dtype is not a known type: float31"),
        ("inputs.0.bytes", 16383, "inputs[0].bytes is not room for the 16384 bytes"),
        ("inputs.1.name", "x", "inputs has a name twice"),
        ("outputs.1.name", "z", "outputs has a name twice"),
        ("outputs.0.shape", 3, "outputs[0].shape is not a list"),
        ("outputs.0.shape", [2**40] * 3, "outputs[0].bytes is not room"),
        ("entry", "a b", "entry is not a symbol"),
        ("steps.0", "conv", "steps[0] is not an object"),
        ("target.features", "avx2", "target.features is not a list"),
        ("golden.tolerance", -1, "golden.tolerance is not a number"),
        ("name", "", "name is not a text"),
    ],
)
def test_wrong_values_are_named(fake_path: Path, path: str, new: Any, message: str) -> None:
    value = full(fake_path)
    put(value, path, new)
    with pytest.raises(ValueError) as caught:
        manifest.parse(value)
    assert message in str(caught.value)


def test_the_writer_refuses_what_a_reader_would(tmp_path: Path, fake_code: Path) -> None:
    for change in ({"arena_bytes": -1}, {"dim_slots": "many"}, {"producer": float("nan")}, {"steps": [{}]}):
        with pytest.raises(EdgertError, match="cannot write an artifact with this manifest"):
            fake.make_artifact(tmp_path / "m.edge", fake_code, **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["more", "fewer", "longer"])
def test_members_must_be_those_listed(tmp_path: Path, fake_path: Path, change: str) -> None:
    """A well-formed ZIP whose members are not what its manifest says."""
    opened = artifact.Artifact.open(fake_path)
    members = {name: bytes(opened.member(name)) for name in opened._entries}
    if change == "more":
        members["extra"] = b"1"
    elif change == "fewer":
        del members["golden/in/x.npy"]
    else:
        members["golden/in/x.npy"] += b"1"
    placed, zip64 = zipformat.layout([(name, len(data)) for name, data in members.items()])
    entries = [replace(entry, crc=zlib.crc32(members[entry.name])) for entry in placed]
    parts = [zipformat.local_header(entry, zip64) + members[entry.name] for entry in entries]
    (tmp_path / "m.edge").write_bytes(b"".join(parts) + zipformat.directory(entries, zip64))
    with pytest.raises(EdgertError, match="its members are not those the manifest lists"):
        edgert.load(tmp_path / "m.edge")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_accepted_or_a_value_error(fake_path: Path, data: st.DataObject) -> None:
    value = full(fake_path)
    place: Any = value
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    try:
        manifest.parse(json.loads(json.dumps(value)))
    except ValueError as error:
        assert "\n" not in str(error)
