"""What a file needs before it is written whole: a checked manifest, and weights with their hashes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from edgert import manifest as schema
from edgert.errors import EdgertError

Buffer = bytes | bytearray | memoryview
SEGMENT_BYTES = 4 << 20
_NO_HASH = "0" * 64  # holds a hash's place until it is known: the manifest comes first but knows of all others


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it stands in the file."""
    return json.dumps(manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def complete(manifest: Mapping[str, Any], others: Mapping[str, Buffer]) -> dict[str, Any]:
    """The manifest with all that is known before writing, hashes as place holders; checked as a reader checks it."""
    full = {"format": schema.FORMAT, "abi": schema.abi_of(manifest), **manifest}
    try:
        total = full.get("weights_bytes", 0)
        given = manifest.get("segments")
        if given is None:
            starts = range(0, total, SEGMENT_BYTES)
            given = [{"offset": at, "size": min(SEGMENT_BYTES, total - at), "residency": "resident"} for at in starts]
        full["segments"] = [{**segment, "sha256": _NO_HASH} for segment in given]
        full["members"] = {name: {"size": len(data), "sha256": _NO_HASH} for name, data in others.items()}
        schema.parse(full)
        full = json.loads(encode(full))  # plain data of our own, so that the caller's is not changed
    except (TypeError, ValueError) as error:
        raise EdgertError(f"cannot write an artifact with this manifest: {error}") from None
    return full


def write_weights(file: BinaryIO, chunks: Iterable[Buffer], segments: list[dict[str, Any]], path: object) -> int:
    """Write `chunks` at the file's position, fill in each segment's SHA-256, give the CRC-32 of the whole."""
    import hashlib  # here: readers need no OpenSSL

    crc, index, hasher = 0, 0, hashlib.sha256()
    left = segments[0]["size"] if segments else 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        crc = zlib.crc32(view, crc)
        file.write(view)
        while len(view):
            if index == len(segments):
                raise EdgertError(f"cannot write {path}: more weights came than weights_bytes says")
            part = view[:left]
            hasher.update(part)
            left -= len(part)
            view = view[len(part) :]
            if not left:
                segments[index]["sha256"] = hasher.hexdigest()
                index, hasher = index + 1, hashlib.sha256()
                left = segments[index]["size"] if index < len(segments) else 0
    if index != len(segments):
        raise EdgertError(f"cannot write {path}: fewer weights came than weights_bytes says")
    return crc
