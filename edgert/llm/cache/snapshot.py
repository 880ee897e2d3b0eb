"""A cache in a file, so that a long prompt need not run again: written whole or not at all, refused unless it fits.

16 bytes   MAGIC
4          version, little endian as all numbers
32         SHA-256 of all that follows
4          bytes of the header
header     JSON: model (hash of its weights), cache (format), position, forgotten, gap
           and folded, where rows are
data       token ids, int64 [position]; then every array of the cache by its name's order, its rows in use
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgert.artifact import Artifact
from edgert.atomic import atomic_file
from edgert.digest import sha256
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.llm.cache.rows import CacheRows

MAGIC, VERSION = b"edgert KV cache\n", 1
START = len(MAGIC) + 4 + 32 + 4  # of the header
MOST_HEADER = 1 << 16


def model_hash(artifact: Artifact) -> str:
    """What tells one model's weights, as they are packed, from all others: hexadecimal SHA-256 of their hashes."""
    return sha256("".join(digest for _, _, digest in artifact.spec.segments).encode())


def save(path: str | os.PathLike[str], artifact: Artifact, rows: CacheRows, held: int) -> None:
    """Write the first `held` rows to `path`. Raises EdgertError where that cannot be written."""
    import hashlib  # here: readers need no OpenSSL

    facts = {"model": model_hash(artifact), "cache": _form(artifact), "position": held}
    folded = rows.folded
    more = {"folded": folded} if folded else {}
    header = json.dumps({**facts, "forgotten": rows.forgotten, "gap": rows.gap, **more}).encode()
    size = len(header).to_bytes(4, "little")
    hasher = hashlib.sha256(size + header)
    for part in _parts(rows, held, folded):
        hasher.update(part.tobytes())
    with atomic_file(path) as file:
        file.write(MAGIC + VERSION.to_bytes(4, "little") + hasher.digest() + size + header)
        for part in _parts(rows, held, folded):
            file.write(part.tobytes())


def restore(path: str | os.PathLike[str], artifact: Artifact, rows: CacheRows, vocab: int) -> int:
    """Fill the cache from the file at `path`, and give the number of rows in use.

    Raises UsageError where there is no such file, EdgertError for one that is damaged or of another version, model or
    format, DoesNotFit for one with more tokens than there are rows. The cache is then as it was.
    """
    data = _mapped(Path(path))
    header = _header(path, data)
    for name, what, here in (("model", "model", model_hash(artifact)), ("cache", "cache format", _form(artifact))):
        if header.get(name) != here:
            raise EdgertError(f"{path}: saved with another {what}: {header.get(name)!r:.80}, this one's is {here!r}")
    numbers = [header.get(name) for name in ("position", "forgotten", "gap")]
    held, forgotten, gap = (n if type(n) is int else -1 for n in numbers)
    if min(held, forgotten, gap) < 0 or gap > held or (gap and not forgotten):
        raise EdgertError(f"{path}: damaged: its header makes no sense")
    if held > rows.count:
        raise DoesNotFit(f"{path}: {held} tokens do not fit a context of {rows.count}")
    folded = header.get("folded", 0)
    if type(folded) is not int or not rows.may_fold(held, folded):
        raise EdgertError(f"{path}: damaged: its header makes no sense")
    at = START + int.from_bytes(data[START - 4 : START], "little")
    parts = list(_parts(rows, held, folded))
    if len(data) - at != sum(part.nbytes for part in parts):
        raise EdgertError(f"{path}: damaged: {len(data) - at} bytes of data are not those of {held} tokens")
    ids = np.frombuffer(data, np.int64, held, at)
    if held and not 0 <= ids.min() <= ids.max() < vocab:
        raise EdgertError(f"{path}: damaged: it has tokens outside the vocabulary of {vocab}")
    for part in parts:
        part[...] = np.frombuffer(data, part.dtype, part.size, at).reshape(part.shape)
        at += part.nbytes
    rows.forgotten, rows.gap, rows.folded = forgotten, gap, folded
    return held


def _parts(rows: CacheRows, held: int, folded: int) -> Iterator[np.ndarray]:
    """Views of what is saved, in order."""
    yield rows.ids[:held]
    yield from rows.saved(held, folded)


def _form(artifact: Artifact) -> str:
    return str(artifact.manifest["decoder"].get("cache", "f16"))


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise EdgertError(f"{path}: cannot be read: {error.strerror or error}") from None


def _header(path: object, data: mmap.mmap | bytes) -> dict[str, Any]:
    """The header of a file that is whole."""
    if data[: len(MAGIC)] != MAGIC:
        raise EdgertError(f"{path}: not a saved KV cache")
    at = len(MAGIC)
    version = int.from_bytes(data[at : at + 4], "little")
    if len(data) >= START and version != VERSION:
        raise EdgertError(f"{path}: a saved KV cache of version {version}, this edgert reads {VERSION}")
    with memoryview(data) as view:
        if len(data) < START or sha256(view[at + 36 :]) != data[at + 4 : at + 36].hex():
            raise EdgertError(f"{path}: damaged: it does not match its SHA-256")
    size = int.from_bytes(data[START - 4 : START], "little")
    try:
        if size > min(MOST_HEADER, len(data) - START):
            raise ValueError
        header = json.loads(data[START : START + size])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise EdgertError(f"{path}: damaged: it has no header")
    return header
