"""Artifacts whose weights lie coded without loss: the manifest's entry `coding`, writing and reading them."""

from __future__ import annotations

import ctypes
import mmap
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from edgert.digest import sha256
from edgert.errors import EdgertError, UsageError
from edgert.native.library import runtime
from edgert.zipformat import PAGE
from flashload.layout import up

if TYPE_CHECKING:  # what codes is only loaded where something is coded
    from flashload.coding.worth import DecodeSpeed
    from flashload.profile import FlashProfile

Coder = Callable[[np.ndarray], bytes | None]  # a segment's bytes, coded, or None where that is not worth it
Segments = Sequence[tuple[int, int, str]]  # offset, size, SHA-256: of decoded weights
CODES = ("auto", "none")
PART = 256 << 10
SCRATCH = PART + 3 * PAGE  # of a thread that decodes (coded.c)
SLACK = bytes(8)  # EDGERT_CODING_SLACK of coding.h


@dataclass(frozen=True)
class Coding:
    """stored: bytes of the member weights.bin. parts: of each of `cuts` its place there, its bytes, 1 when coded.
    where: offsets and sizes of `cuts`."""

    stored: int
    parts: tuple[tuple[int, int, int], ...]
    where: tuple[tuple[int, int], ...]

    @property
    def gain(self) -> float:
        """How many bytes come of one that is read, of what is coded."""
        coded = [(size, read) for (_, size), (_, read, kind) in zip(self.where, self.parts, strict=True) if kind]
        return sum(size for size, _ in coded) / max(1, sum(read for _, read in coded)) if coded else 1.0


def cuts(segments: Segments) -> list[tuple[int, int]]:
    """Offset and size of what is coded by itself: segments, cut so that a reader needs little memory to decode one."""
    found = [(offset + at, min(PART, size - at)) for offset, size, _ in segments for at in range(0, size, PART)]
    if any(size % PAGE for _, size in found[:-1]):
        raise ValueError("coded segments are not whole pages")
    return found


class CodedSegment(ctypes.Structure):
    """edgert_coded_segment of coded.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("offset", "size", "at", "bytes", "coded"))


def coder_of(code: str, emit: str) -> Coder | None:
    """What codes weights with `--code auto|none`: for the flash that is planned for. Raises UsageError."""
    if code not in CODES:
        raise UsageError(f"--code {code}: there are {', '.join(CODES)}")
    if code == "none":
        return None
    if emit != "edge":
        raise UsageError("--code auto is for artifacts (--emit edge): programs read their weights as they are")
    from flashload.named_profiles import usual

    return coder(usual())


def coder(flash: FlashProfile) -> Coder:
    """Codes where that makes reading from `flash` faster, by what decoding takes on this machine."""
    from flashload.coding import planes
    from flashload.coding.worth import pays

    speed = decode_speed()

    def code(data: np.ndarray) -> bytes | None:
        width, bits = planes.width_of(data)
        if not pays(bits, speed, flash):
            return None
        coded = planes.encode(data, width)
        return coded if up(len(coded), PAGE) < up(len(data), PAGE) else None

    return code


def coding_text(manifest: Mapping[str, Any]) -> str:
    """What coding saved, for people."""
    parts, before, stored = manifest["coding"]["parts"], manifest["weights_bytes"], manifest["coding"]["stored"]
    count = sum(coded for _, _, coded in parts)
    saved = f"{before} bytes of weights take {stored} ({100 * (1 - stored / before):.1f} % less)"
    return f"coded without loss: {count} of {len(parts)} parts; {saved}"


def decode_speed() -> DecodeSpeed:
    """Measured, the best of a few milliseconds, on bytes like those of weights."""
    from flashload.coding import planes
    from flashload.coding.worth import DecodeSpeed

    values = np.random.default_rng(0).normal(0, 0.05, 1 << 16).astype(np.float32)
    rates = []
    for data in (np.clip(values * 400, -127, 127).astype(np.int8).view(np.uint8), values.view(np.uint8)):
        coded, best = planes.encode(data, planes.width_of(data)[0]), 1.0
        for _ in range(10):
            start = time.perf_counter()
            decode(coded, len(data))
            best = min(best, time.perf_counter() - start)
        rates.append((coded[4], coded[5].bit_count(), len(data) / best))
    (_, _, bytes_coded), (width, count, mixed) = rates
    plain = (width / mixed - count / bytes_coded) / (width - count)  # seconds for a byte
    return DecodeSpeed(bytes_coded, 1 / plain if plain > 0 else 10 * bytes_coded)


def decode(coded: bytes | memoryview, size: int) -> np.ndarray:
    """The `size` bytes of a coded segment. Raises ValueError where it is damaged."""
    whole, out = bytes(coded) + SLACK, np.empty(size, np.uint8)
    function = runtime().edgert_decode
    function.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    if function(whole, len(coded), out.ctypes.data, size):
        raise ValueError("coded weights are damaged")
    return out


@contextmanager
def spooled(
    chunks: Iterable[bytes | bytearray | memoryview], full: Mapping[str, Any], code: Coder, folder: Path
) -> Iterator[tuple[dict[str, Any], Callable[[BinaryIO], int]]]:
    """The manifest's entry for weights that `code` codes, which lie in a file without a name in `folder` for the block,
    and what copies them to another file, giving their CRC-32. Coded is what runs stream whole, not what they only look
    rows up in. Fills in the SHA-256 of each segment's decoded bytes. full: a manifest that has `stream`."""
    import tempfile  # here, as in native/code.py: it brings much along that readers do not need

    segments = full["segments"]
    streamed = {segment for *_, pieces in full["stream"]["visits"] for segment, _ in pieces}
    with tempfile.TemporaryFile(dir=folder, prefix=".edgert-") as spool:
        parts: list[list[int]] = []
        held, number, at = bytearray(), 0, 0
        for chunk in chunks:
            held += chunk
            while number < len(segments) and len(held) >= (size := segments[number]["size"]):
                segment, data = segments[number], bytes(held[:size])
                del held[:size]
                segment["sha256"] = sha256(data)
                wanted = segment["residency"] != "resident" and number in streamed
                number += 1
                for part in (data[i : i + PART] for i in range(0, size, PART)):
                    coded = code(np.frombuffer(part, np.uint8)) if wanted else None
                    stored = part if coded is None else coded
                    parts.append([at, len(stored), int(coded is not None)])
                    spool.write(stored)
                    spool.write(bytes(up(len(stored), PAGE) - len(stored)))
                    at += up(len(stored), PAGE)
        if held or number != len(segments):
            raise EdgertError("the weights that came are not those that the segments list")

        def copy(file: BinaryIO) -> int:
            crc = 0
            spool.seek(0)
            while block := spool.read(1 << 20):
                crc = zlib.crc32(block, crc)
                file.write(block)
            return crc

        yield {"stored": at, "parts": parts}, copy


def parse_coding(value: Any, segments: Segments) -> Coding:
    """The manifest's entry, checked: the C runtime trusts it. Raises ValueError."""
    rows = value.get("parts") if isinstance(value, dict) else None
    stored = value.get("stored") if isinstance(value, dict) else None
    wanted = cuts(segments)
    if not isinstance(rows, list) or not isinstance(stored, int) or len(rows) != len(wanted):
        raise ValueError("coding does not list all parts of the segments")
    end, parts = 0, []
    for number, (row, (_, size)) in enumerate(zip(rows, wanted, strict=True)):
        whole = isinstance(row, list) and len(row) == 3 and all(type(entry) is int for entry in row)
        if not whole or row[0] != end or row[2] not in (0, 1) or not 1 <= row[1] <= size:
            raise ValueError(f"coding.parts[{number}] is not a part that follows the one before")
        if not row[2] and row[1] != size:
            raise ValueError(f"coding.parts[{number}] has not the bytes of its segment")
        parts.append((row[0], row[1], row[2]))
        end = up(end + row[1], PAGE)
    if end != stored:
        raise ValueError(f"coding covers {end} of {stored} bytes")
    return Coding(stored, tuple(parts), tuple(wanted))


def decoded(stored: memoryview, coding: Coding) -> memoryview:
    """All weights, decoded into memory of their own. Raises ValueError where they are damaged."""
    total = sum(size for _, size in coding.where)
    room = memoryview(mmap.mmap(-1, max(1, total), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for number, ((offset, size), (at, length, coded)) in enumerate(zip(coding.where, coding.parts, strict=True)):
        part = stored[at : at + length]
        try:
            room[offset : offset + size] = decode(part, size).data if coded else part
        except ValueError as error:
            raise ValueError(f"weights.bin, coded part {number}: {error}") from None
    return room[:total]


def coded_source(inner: int, coding: Coding, start: int) -> int:
    """An edgert_source of the decoded weights, from 0 on; `inner`, which it takes, reads the file, where they lie from
    `start` on. Raises EdgertError."""
    rows = [
        CodedSegment(offset, size, start + at, length, coded)
        for (offset, size), (at, length, coded) in zip(coding.where, coding.parts, strict=True)
    ]
    function = runtime().edgert_source_coded
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = ctypes.c_void_p
    source = function(inner, (CodedSegment * len(rows))(*rows), len(rows))
    if not source:
        raise EdgertError("no memory to read coded weights with")
    return int(source)
