"""Damaged and hostile artifacts: the runner gives one clear error, and never a signal."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgert import artifact, zipformat
from edgert.artifact import Artifact
from edgert.digest import sha256
from tests.edgert import fake_artifact as fake
from tests.native.conftest import Run, assert_refused

_PROGRAM = struct.Struct("<IIQQQQQQ")


def rewritten(path: Path, source: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The artifact with other members, its container in order: what a liar would write. `change` gets them by name."""
    opened = Artifact.open(source)
    members = {name: bytes(opened.member(name)) for name in opened._entries}
    change(members)
    zip_of(path, list(members.items()))
    return path


def zip_of(path: Path, members: list[tuple[str, bytes]]) -> None:
    entries, _ = zipformat.layout([(name, len(data)) for name, data in members])
    entries = [
        zipformat.Entry(e.name, e.size, e.header, e.data, artifact.zlib.crc32(data))
        for e, (_, data) in zip(entries, members, strict=True)
    ]
    whole = bytearray(entries[-1].data + entries[-1].size)
    for entry, (_, data) in zip(entries, members, strict=True):
        header = zipformat.local_header(entry, False)
        whole[entry.header : entry.header + len(header)] = header
        whole[entry.data : entry.data + entry.size] = data
    path.write_bytes(bytes(whole) + zipformat.directory(entries, False))


def with_manifest(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), **changes}).encode()

    return change


@pytest.mark.parametrize("tenth", range(10))
def test_cut(tmp_path: Path, run: Run, fake_path: Path, tenth: int) -> None:
    whole = fake_path.read_bytes()
    (tmp_path / "m.edge").write_bytes(whole[: len(whole) * tenth // 10])
    assert_refused(run(tmp_path / "m.edge", "--verify"), 1, "m.edge: ")


def test_a_flipped_bit_anywhere(tmp_path: Path, run: Run, fake_path: Path) -> None:
    """In every header and member, and at random places: as with the Python runner, none passes."""
    whole = fake_path.read_bytes()
    entries = Artifact.open(fake_path)._entries.values()
    generator = np.random.default_rng(3)
    places = [at for e in entries for at in (e.header, e.data - 1, e.data, e.data + e.size - 1)]
    places += [int(at) for at in generator.integers(0, len(whole), 100)] + list(range(len(whole) - 40, len(whole)))
    for at in places:
        data = bytearray(whole)
        data[at] ^= 1 << int(generator.integers(8))
        (tmp_path / "m.edge").write_bytes(data)
        assert_refused(run(tmp_path / "m.edge", "--verify"), 1, "damaged artifact: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "its format is 2"),
        ({"arena_bytes": -1}, "arena_bytes is not a whole number"),
        ({"arena_bytes": 1 << 60}, "arena_bytes is not a whole number"),
        ({"weights_bytes": 9_999}, "segments[0].size is not a whole number"),
        ({"weights_bytes": 20_000}, "segments cover 10000 of 20000 bytes"),
        ({"dim_slots": 0}, "dim_slots is not a whole number"),
        ({"inputs": {}}, "inputs is not a list"),
        ({"inputs": [{"name": "x"}]}, "inputs[0].dtype is missing"),
        ({"outputs": [{"name": "z", "dtype": "float32", "shape": [9, 9], "bytes": 323}]}, "[0].bytes is not room"),
        ({"outputs": [{"name": "z", "dtype": "float32", "shape": [1 << 40] * 9, "bytes": 323}]}, "is not room"),
        ({"outputs": [{"name": "z", "dtype": "f33", "shape": [], "bytes": 323}]}, "dtype is not a known type"),
        ({"outputs": [{"name": "z", "dtype": "int8", "shape": [{"slot": 2, "max": 1}], "bytes": 3}]}, "shape[0].slot"),
        ({"entry": "nothing"}, "its code cannot be loaded: it does not define its entry"),
        ({"members": {}}, "its members are not those"),
        ({"stream": {"weights": 1, "visits": [[0, 0, 1, 1, [[9, 0]]]], "lookups": []}}, "stream.visits[0][0]"),
        ({"stream": {"weights": 1, "visits": [[0, 0, 1]], "lookups": []}}, "stream.visits[0]"),
        ({"device": {"api": "opencl"}}, "compiled for a graphics processor"),
        ({"stream": {"weights": 1, "visits": [], "lookups": [{}]}}, "stream.lookups[0].step is missing"),
        ({"coding": {"stored": 1, "parts": []}}, "coding.parts is not all parts"),
        ({"golden": {"tolerance": -1}}, "golden.tolerance is not a number"),
    ],
)  # fmt: skip
def test_a_manifest_that_lies(tmp_path: Path, run: Run, fake_path: Path, changes: dict, message: str) -> None:
    assert_refused(run(rewritten(tmp_path / "m.edge", fake_path, with_manifest(**changes)), "--verify"), 1, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"format": 1, "format": 1}', "a key is there twice"),
        (b"[" * 100, "nested too deeply"),
        (b'{"a": NaN}', "a value is none"),
        (b'{"a": 99999999999999999999}', "out of range"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\u0000"}', "an escape that means nothing"),
        (b"{} {}", "something follows its end"),
        (b"", "ends too early"),
        (b"3", "the manifest is not an object"),
    ],
)
def test_a_manifest_that_is_no_json(tmp_path: Path, run: Run, fake_path: Path, text: bytes, message: str) -> None:
    path = rewritten(tmp_path / "m.edge", fake_path, lambda members: members.update({"manifest.json": text}))
    assert_refused(run(path, "--verify"), 1, message)


def test_a_member_twice(tmp_path: Path, run: Run, fake_path: Path) -> None:
    opened = Artifact.open(fake_path)
    members = [(name, bytes(opened.member(name))) for name in opened._entries]
    zip_of(tmp_path / "m.edge", [*members, members[1]])
    assert_refused(run(tmp_path / "m.edge", "--verify"), 1, "a member is there twice")


def with_code(change: Callable[[bytearray], object]) -> Callable[[dict[str, bytes]], None]:
    def rewrite(members: dict[str, bytes]) -> None:
        code = bytearray(members["code"])
        change(code)
        members["code"] = bytes(code)
        manifest = json.loads(members["manifest.json"])
        manifest["members"]["code"] = {"size": len(code), "sha256": sha256(code)}
        members["manifest.json"] = json.dumps(manifest).encode()

    return rewrite


def segment(code: bytearray, kind: int, **changes: int) -> None:
    """Change fields of all program headers of a kind."""
    names = ("type", "flags", "offset", "vaddr", "paddr", "filesz", "memsz", "align")
    start = struct.unpack_from("<Q", code, 32)[0]
    for number in range(struct.unpack_from("<H", code, 56)[0]):
        fields = dict(zip(names, _PROGRAM.unpack_from(code, start + number * _PROGRAM.size), strict=True))
        if fields["type"] == kind:
            _PROGRAM.pack_into(code, start + number * _PROGRAM.size, *(fields | changes).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda code: segment(code, 1, flags=7), "writable and executable"),
        (lambda code: segment(code, 0x6474E551, flags=7), "a stack that can be executed"),
        (lambda code: segment(code, 1, offset=1 << 40), "its segments are damaged"),
        (lambda code: segment(code, 1, filesz=1 << 40, memsz=1 << 41), "its segments are damaged"),
        (lambda code: segment(code, 1, vaddr=0), "share pages or are out of order"),
        (lambda code: segment(code, 1, vaddr=(1 << 64) - 4096), "its segments are damaged"),
        (lambda code: segment(code, 2, vaddr=1 << 50), "its dynamic section is damaged"),
        (lambda code: code.__setitem__(18, 3), "another machine"),
        (lambda code: code.__setitem__(4, 1), "no shared object of this machine's kind"),
        (lambda code: code.__delitem__(slice(100, None)), "its headers are damaged"),
        (lambda code: code.__delitem__(slice(10, None)), "it is too short"),
    ],
)
def test_code_that_is_no_code(tmp_path: Path, run: Run, fake_path: Path, change: Any, message: str) -> None:
    path = rewritten(tmp_path / "m.edge", fake_path, with_code(change))
    done = run(path, "--verify")
    assert_refused(done, 1, message)
    assert "damaged artifact: its code cannot be loaded: it" in done.stderr


def test_code_damaged_in_its_headers(tmp_path: Path, run: Run, fake_path: Path) -> None:
    """A byte of the headers and tables changed, all hashes made right: refused, or run to some answer; no signal but
    one that comes of the model's own code."""
    generator = np.random.default_rng(11)
    size = len(Artifact.open(fake_path).code)
    for _ in range(150):
        at, value = int(generator.integers(0, min(size, 700))), int(generator.integers(256))
        path = rewritten(
            tmp_path / "m.edge", fake_path, with_code(lambda code, at=at, value=value: code.__setitem__(at, value))
        )
        assert run("--members", path).returncode == 0  # the container stays right
        done = run(path, "--help")  # all is loaded, nothing run
        assert done.returncode in (0, 1), (at, value, done.returncode)
        assert done.returncode == 0 or done.stderr.count("\n") == 1


TABLES = """
#include "edgert.h"
static int32_t one(edgert_ctx *c) { ((float *)c->io[2])[0] = 1; return 0; }
static int32_t two(edgert_ctx *c) { ((float *)c->io[2])[0] = 2; return 0; }
static int32_t (*const table[])(edgert_ctx *) = {one, two};
%s
int32_t edgert_run(edgert_ctx *c) { c->dims[1] = 0; %s return table[c->dims[0] > 1](c); }
"""


def test_code_with_pointers_in_its_data(tmp_path: Path, run: Run) -> None:
    """Tables of addresses need relocation; data that is written to has pages of its own."""
    (tmp_path / "t.c").write_text(TABLES % ("static int64_t calls;", "calls++; if (calls > 3) return 1;"))
    code = fake.compile_code(tmp_path, tmp_path / "t.c")
    artifact.write(tmp_path / "m.edge", fake.make_manifest(0), code.read_bytes(), [])
    for rows in (1, 2):
        np.save(tmp_path / "x.npy", np.zeros((rows, 4), np.float32))
        words = ["--input", f"x={tmp_path}/x.npy", "--input", "y=zeros", "--output", tmp_path]
        assert run(tmp_path / "m.edge", *words).returncode == 0
        assert np.load(tmp_path / "z.npy")[0, 0] == rows


def test_code_that_is_not_freestanding(tmp_path: Path, run: Run) -> None:
    (tmp_path / "i.c").write_text(TABLES % ("int other(void);", "other();"))
    code = fake.compile_code(tmp_path, tmp_path / "i.c", "-Wl,--allow-shlib-undefined", "-Wl,-z,undefs").read_bytes()
    artifact.write(tmp_path / "m.edge", fake.make_manifest(0), code, [])
    assert_refused(run(tmp_path / "m.edge", "--verify"), 1, "its code cannot be loaded: it ")
