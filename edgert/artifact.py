"""The `.edge` container: write one, open one, verify one. The format is told in docs/artifact.md."""

from __future__ import annotations

import json
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgert import manifest as schema
from edgert import npy
from edgert.artifact_parts import Buffer, complete, encode, write_weights
from edgert.atomic import atomic_file
from edgert.coding import Coder, decoded, spooled
from edgert.digest import check_digests, sha256
from edgert.errors import EdgertError, NoProgram, UsageError
from edgert.zipformat import PAGE, Entry, directory, layout, local_header, parse

MANIFEST, CODE, WEIGHTS = "manifest.json", "code", "weights.bin"
_PROGRAM, _VARIANT = "programs/{}.json", "variants/{}.json"
_LONG = {"plan", "steps", "stream"}  # entries of every program, most of a manifest


def write(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    code: Buffer,
    weights: Buffer | Iterable[Buffer],
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    golden_outputs: Mapping[str, np.ndarray] | None = None,
    more: Mapping[str, Buffer] | None = None,
    coder: Coder | None = None,
) -> dict[str, Any]:
    """Write an artifact in one step (a failure leaves what stood at `path`) and give back the manifest as written.

    `manifest` as in docs/artifact.md, but with the parts of further `programs` and `variants` by name; this fills in
    `format`, `abi`, `members`, every SHA-256, and `segments` when absent (resident, 4 MiB each). `weights` are chunks
    of any size that join to `weights_bytes` bytes; each is written and dropped before the next is asked for. Arrays for
    golden/ are keyed by tensor name. more: further members by name (a language model's tokenizer). coder: codes
    segments without loss (edgert/coding.py).
    Raises EdgertError when the manifest is not valid, the chunks do not add up, or the file cannot be written."""
    others: dict[str, Buffer] = {CODE: code, **(more or {})}
    if programs := manifest.get("programs"):  # as members, so that readers need not take in those that they do not run
        others |= {_PROGRAM.format(name): encode(part) for name, part in programs.items()}
        manifest = {**manifest, "programs": [*programs]}
    if variants := manifest.get("variants"):
        others |= {_VARIANT.format(name): encode(part) for name, part in variants.items()}
        listed = [{"name": name, "features": part["target"]["features"]} for name, part in variants.items()]
        manifest = {**manifest, "variants": listed}
    for folder, arrays in (("in", golden_inputs or {}), ("out", golden_outputs or {})):
        for name, array in arrays.items():
            others[f"golden/{folder}/{npy.file_stem(name)}.npy"] = npy.to_bytes(array)
    full, given = complete(manifest, others), [weights] if isinstance(weights, Buffer) else weights
    if coder is None or "stream" not in full:
        return _write(path, full, others, lambda file: write_weights(file, given, full["segments"], path))
    with spooled(given, full, coder, Path(path).parent) as (coding, copy):  # their sizes come before them
        return _write(path, {**full, "coding": coding}, others, copy)


def _write(
    path: str | os.PathLike[str], full: dict[str, Any], others: Mapping[str, Buffer],
    put_weights: Callable[[BinaryIO], int],
) -> dict[str, Any]:  # fmt: skip
    """put_weights: writes the member weights.bin at a file's position, and gives its CRC-32."""
    stored = schema.parse(full).stored_bytes
    sizes = [(MANIFEST, len(encode(full))), (CODE, len(others[CODE])), (WEIGHTS, stored)]
    sizes += [(name, len(data)) for name, data in others.items() if name != CODE]
    entries, zip64 = layout(sizes)
    with atomic_file(path) as file:
        done: list[Entry] = []
        for entry in entries[1:]:
            file.seek(entry.data)
            if entry.name == WEIGHTS:
                done.append(replace(entry, crc=put_weights(file)))
            else:
                data = others[entry.name]
                file.write(data)
                full["members"][entry.name]["sha256"] = sha256(data)
                done.append(replace(entry, crc=zlib.crc32(data)))
        text = encode(full)
        done.insert(0, replace(entries[0], crc=zlib.crc32(text)))
        for entry in done:
            file.seek(entry.header)
            file.write(local_header(entry, zip64))
        file.seek(done[0].data)
        file.write(text)
        file.seek(done[-1].data + done[-1].size)
        file.write(directory(done, zip64))
    return full


def _decode(text: bytes, member: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{member} is nested too deeply") from None


class Artifact:
    """An open artifact: `path`, `manifest` (the JSON as a dictionary), `spec` (its checked parts). The file is mapped
    and used in place; nothing is copied but the manifest."""

    def __init__(self, path: Path, mapping: mmap.mmap, entries: Mapping[str, Entry]) -> None:
        """Use `Artifact.open`."""
        self.path, self._mapping, self._entries = path, mapping, entries
        self._data = memoryview(mapping)
        self.manifest: dict[str, Any] = {}
        self.spec: schema.Manifest
        self._decoded: memoryview | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> Artifact:
        """Map and check the file at `path`: every header byte, the manifest's CRC and values, and, if `verify`, the
        SHA-256 of every member and segment. Raises UsageError when there is no such file, EdgertError when it is
        damaged or of another version."""
        where = Path(path)
        mapping = _map(where)
        try:
            with memoryview(mapping) as data:
                entries = parse(data)
            artifact = cls(where, mapping, {entry.name: entry for entry in entries})
            artifact._read_manifest(entries)
        except ValueError as error:
            raise _damaged(where, error) from None
        if verify:
            artifact.check()
        return artifact

    def check(self, weights: bool = True) -> None:
        """As `verify`, but not of weights that are checked when they are read, unless `weights`; raises EdgertError."""
        every = weights or self.spec.stream is None
        if every:
            self._mapping.madvise(mmap.MADV_NORMAL)
        else:  # the system is not to read ahead, by megabytes on some machines, what this process has no room for
            for name in self.spec.members:
                entry = self._entries[name]
                start = entry.data // PAGE * PAGE
                self._mapping.madvise(mmap.MADV_WILLNEED, start, entry.data + entry.size - start)
        try:
            self.verify(every)
        except ValueError as error:
            raise _damaged(self.path, error) from None

    def _read_manifest(self, entries: list[Entry]) -> None:
        if not entries or entries[0].name != MANIFEST:
            raise ValueError("its first member is not the manifest")
        text = bytes(self.member(MANIFEST))
        if zlib.crc32(text) != entries[0].crc:
            raise ValueError(f"{MANIFEST} does not match its CRC-32")
        self.manifest = _decode(text, MANIFEST)
        self.spec = schema.parse(self.manifest)
        sizes = {name: size for name, (size, _) in self.spec.members.items()} | {WEIGHTS: self.spec.stored_bytes}
        if sizes != {entry.name: entry.size for entry in entries[1:]}:
            raise ValueError("its members are not those the manifest lists")
        if self._entries[WEIGHTS].data % PAGE:
            raise ValueError(f"{WEIGHTS} does not start on a page")

    def select(self, program: str) -> None:
        """Be the program of that name, of an artifact with several. Raises NoProgram where there is none."""
        others, member = self.manifest.get("programs"), _PROGRAM.format(program)
        if member not in self._entries:
            named = ", ".join(map(str, others)) if isinstance(others, list) and others else "none"
            raise NoProgram(f"{self.path} has no program {program!r}; further ones are: {named}")
        self.manifest = {key: value for key, value in self.manifest.items() if key not in _LONG}
        del self.spec  # it holds the steps: nothing long is there twice while the program's is read
        self._become(member, f"program {program}")

    def choose(self, features: Collection[str]) -> None:
        """Be the first of the artifact's variants that needs no other features of a processor; else stay as it is."""
        for name in [name for name, needed in self.spec.variants if needed <= set(features)][:1]:
            self._become(_VARIANT.format(name), f"variant {name}")

    def _become(self, member: str, what: str) -> None:
        try:
            part = _decode(bytes(self.member(member)), member)
            if not isinstance(part, dict):
                raise ValueError("it is no object")
            if lacks := _LONG - self.manifest.keys() - part.keys():
                main = _decode(bytes(self.member(MANIFEST)), MANIFEST)
                part = {key: main[key] for key in lacks & main.keys()} | part
            self.manifest = {**self.manifest, **part}
            self.spec = schema.parse(self.manifest)
        except ValueError as error:
            raise EdgertError(f"{self.path}: damaged artifact: {what}: {error}") from None

    def verify(self, every: bool = True) -> None:
        """Check the SHA-256 of every member and, if `every`, weight segment; raises ValueError naming the first that
        differs."""
        weights = self.weights if every else memoryview(b"")
        parts = [(name, self.member(name), digest) for name, (_, digest) in self.spec.members.items()]
        for index, (offset, size, digest) in enumerate(self.spec.segments if every else ()):
            parts.append((f"{WEIGHTS}, segment {index}", weights[offset : offset + size], digest))
        check_digests(parts)
        self.leave()

    def leave(self) -> None:
        """Leave the pages read so far to the system: only what is used from now on need stay in memory."""
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def member(self, name: str) -> memoryview:
        """A member's bytes, in place."""
        entry = self._entries[name]
        return self._data[entry.data : entry.data + entry.size]

    @property
    def code(self) -> memoryview:
        """The shared object, in place."""
        return self.member(self.spec.code)

    @property
    def weights(self) -> memoryview:
        """The packed weights, in place; starts on a page of the mapping. Coded ones are decoded, once, into memory of
        their own. Raises ValueError where those are damaged."""
        if self.spec.coding is None:
            return self.member(WEIGHTS)
        if self._decoded is None:
            self._decoded = decoded(self.member(WEIGHTS), self.spec.coding)
        return self._decoded

    @property
    def file(self) -> memoryview:
        """The whole file, in place."""
        return self._data

    def place(self, name: str) -> int:
        """Where a member's bytes start in the file."""
        return self._entries[name].data

    @property
    def weights_offset(self) -> int:
        """Where the weights start in the file."""
        return self._entries[WEIGHTS].data

    def golden(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Recorded inputs and expected outputs by tensor name; both empty when the artifact has none."""
        found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for folder, tensors, arrays in (("in", self.spec.inputs, found[0]), ("out", self.spec.outputs, found[1])):
            for tensor in tensors:
                member = f"golden/{folder}/{npy.file_stem(tensor.name)}.npy"
                if member in self._entries:
                    array = npy.from_bytes(self.member(member), f"{self.path}: {member}")
                    arrays[tensor.name] = npy.restored(array, tensor.dtype)
        return found

    def close(self) -> None:
        """Unmap the file, unless something still uses a part of it (then it goes with the last user)."""
        with suppress(BufferError):
            self._data.release()
            self._mapping.close()


def _damaged(path: Path, error: ValueError) -> EdgertError:
    reason = " ".join(str(error).split())  # names out of a damaged file may hold anything, line ends too
    return EdgertError(f"{path}: damaged artifact: {reason}")


def _map(path: Path) -> mmap.mmap:
    """Map the whole file read-only."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its other end
            raise UsageError(f"{path}: not a regular file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise EdgertError(f"{path}: damaged artifact: it is empty")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapping.madvise(mmap.MADV_RANDOM)  # until it is known what of it is wanted: see `check`
            return mapping
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise EdgertError(f"{path}: cannot be read: {error.strerror or error}") from None
