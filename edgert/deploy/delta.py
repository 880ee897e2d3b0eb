"""What of a new artifact must be sent to where an older one lies: equal segments and members are copied there."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgert.artifact import WEIGHTS, Artifact

BLOCK = 1 << 16  # bytes that are handed on at once


@dataclass(frozen=True)
class Piece:
    """Bytes [at, at + size) of the new file; source: where the same ones begin in the old file, or None."""

    at: int
    size: int
    source: int | None


@dataclass(frozen=True)
class Old:
    """The artifact on the device: its manifest, and (start in the file, bytes) of each member."""

    manifest: Mapping[str, Any]
    members: Mapping[str, Sequence[int]]


def pieces(new: Artifact, old: Old | None, skip: int = 0) -> list[Piece]:
    """The new file from byte `skip` on, in order, neighbours joined."""
    found: list[Piece] = []
    at = 0
    for start, size, source in sorted(_copies(new, old)):
        found += [Piece(at, start - at, None), Piece(start, size, source)]
        at = start + size
    found.append(Piece(at, len(new.file) - at, None))
    joined: list[Piece] = []
    for piece in found:
        cut = min(piece.size, max(0, skip - piece.at))
        piece = Piece(piece.at + cut, piece.size - cut, None if piece.source is None else piece.source + cut)
        if not piece.size:
            continue
        before = joined[-1] if joined else None
        follows = before and (
            piece.source == (None if before.source is None else before.source + before.size)
        )  # fmt: skip
        if before and follows:
            joined[-1] = Piece(before.at, before.size + piece.size, before.source)
        else:
            joined.append(piece)
    return joined


def _copies(new: Artifact, old: Old | None) -> Iterator[tuple[int, int, int]]:
    """(start in the new file, bytes, start in the old one) of what both have."""
    if old is None:
        return
    listed = old.manifest.get("members", {})
    for name, (size, digest) in new.spec.members.items():
        there = listed.get(name, {})
        if there.get("sha256") == digest and old.members.get(name, [0, -1])[1] == size:
            yield new.place(name), size, old.members[name][0]
    start, before = new.place(WEIGHTS), old.members.get(WEIGHTS, [0, 0])[0]
    segments = old.manifest.get("segments", [])
    if "coding" in new.manifest or "coding" in old.manifest:  # hashes are of decoded segments: all, or nothing
        same = segments == new.manifest["segments"] and old.manifest.get("coding") == new.manifest.get("coding")
        if same:
            yield start, new.spec.stored_bytes, before
        return
    places = {(s["sha256"], s["size"]): s["offset"] for s in segments}
    for offset, size, digest in new.spec.segments:
        if (digest, size) in places:
            yield start + offset, size, before + places[digest, size]


def messages(new: Artifact, parts: Sequence[Piece]) -> Iterator[bytes]:
    """The pieces as edgert/native/device.c takes them."""
    for piece in parts:
        if piece.source is not None:
            yield struct.pack("<cQQ", b"C", piece.source, piece.size)
            continue
        yield struct.pack("<cQ", b"D", piece.size)
        for at in range(piece.at, piece.at + piece.size, BLOCK):
            yield bytes(new.file[at : min(at + BLOCK, piece.at + piece.size)])
    yield b"E"
