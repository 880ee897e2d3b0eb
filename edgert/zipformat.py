"""The bytes of a ZIP around its members: one fixed form, so that a reader can check every bit of it.

Members are stored, in order, each at its alignment; the padding is Android zipalign's extra field (0xD935). Given the
members' names, sizes and CRCs every other byte follows, so the reader rebuilds them and compares: a flipped bit in a
header, in padding or in the directory cannot pass. Sizes of 4 GiB and more use ZIP64. Source: PKWARE APPNOTE 6.3.10."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

ALIGN = 64
PAGE = 4096
PAGED = frozenset({"weights.bin"})
ZIP64_FROM = 0xFFFFFFFF

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<IIQI")
_UTF8, _DATE = 0x0800, 0x0021  # names are UTF-8; 1980-01-01, so equal contents give equal files
_ALIGN_FIELD, _ZIP64_FIELD = 0xD935, 0x0001
_MAX32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One member: `header` and `data` are offsets in the file, `crc` its CRC-32."""

    name: str
    size: int
    header: int
    data: int
    crc: int = 0


def layout(members: Sequence[tuple[str, int]]) -> tuple[list[Entry], bool]:
    """Place members (name, size) one after another. Gives the entries and whether the archive needs ZIP64."""
    for zip64 in (False, True):
        entries, position = [], 0
        for name, size in members:
            fixed = _LOCAL.size + len(name.encode()) + (20 if zip64 else 0)
            data = position + fixed + _padding(position + fixed, PAGE if name in PAGED else ALIGN)
            entries.append(Entry(name, size, position, data))
            position = data + size
        if position < ZIP64_FROM:
            break
    return entries, zip64


def _padding(position: int, align: int) -> int:
    """Bytes of alignment field needed after `position`: 0, or at least the 6 of an empty field."""
    pad = -position % align
    return pad + align if 0 < pad < 6 else pad


def local_header(entry: Entry, zip64: bool) -> bytes:
    """The bytes from the member's header to its data."""
    name = entry.name.encode()
    extra = struct.pack("<HHQQ", _ZIP64_FIELD, 16, entry.size, entry.size) if zip64 else b""
    pad = entry.data - entry.header - _LOCAL.size - len(name) - len(extra)
    if pad:
        align = PAGE if entry.name in PAGED else ALIGN
        extra += struct.pack("<HHH", _ALIGN_FIELD, pad - 4, align).ljust(pad, b"\0")
    size = _MAX32 if zip64 else entry.size
    need = 45 if zip64 else 20
    fixed = (0x04034B50, need, _UTF8, 0, 0, _DATE, entry.crc, size, size, len(name), len(extra))
    return _LOCAL.pack(*fixed) + name + extra


def directory(entries: Sequence[Entry], zip64: bool) -> bytes:
    """The central directory and the end records: everything after the last member's data."""
    out = bytearray()
    need = 45 if zip64 else 20
    for entry in entries:
        name = entry.name.encode()
        extra = struct.pack("<HHQQQ", _ZIP64_FIELD, 24, entry.size, entry.size, entry.header) if zip64 else b""
        size, header = (_MAX32, _MAX32) if zip64 else (entry.size, entry.header)
        fixed = (0x02014B50, need, need, _UTF8, 0, 0, _DATE, entry.crc, size, size)
        out += _CENTRAL.pack(*fixed, len(name), len(extra), 0, 0, 0, 0, header) + name + extra
    start = entries[-1].data + entries[-1].size if entries else 0
    length, count = len(out), len(entries)
    if zip64:
        out += _END64.pack(0x06064B50, _END64.size - 12, need, need, 0, 0, count, count, length, start)
        out += _LOCATOR64.pack(0x07064B50, 0, start + length, 1)
    count16 = min(count, 0xFFFF)
    start32 = _MAX32 if zip64 else start
    return bytes(out + _END.pack(0x06054B50, 0, 0, count16, count16, length, start32, 0))


def parse(data: memoryview, most_members: int = 10_000) -> list[Entry]:
    """The members of the whole file `data`, every header byte checked. Raises ValueError with what is wrong."""
    if len(data) < _END.size:
        raise ValueError("it is too short")
    end = _END.unpack_from(data, len(data) - _END.size)
    if end[0] != 0x06054B50:
        raise ValueError("its end is missing (cut short, or followed by something else)")
    start, length, tail = end[6], end[5], _END.size
    if start == _MAX32:
        tail += _END64.size + _LOCATOR64.size
        if len(data) < tail:
            raise ValueError("its ZIP64 end record is missing")
        start = _END64.unpack_from(data, len(data) - tail)[-1]
    if start + length + tail != len(data):
        raise ValueError("its directory does not end where the file ends")
    members: list[tuple[str, int]] = []
    crcs: list[int] = []
    position, stop = start, start + length
    while position < stop:
        if position + _CENTRAL.size > stop or len(members) == most_members:
            raise ValueError("its directory is damaged")
        fields = _CENTRAL.unpack_from(data, position)
        name_at = position + _CENTRAL.size
        extra_at = name_at + fields[10]
        position = extra_at + fields[11]
        if position > stop:
            raise ValueError("its directory is damaged")
        size = fields[9]
        if size == _MAX32 and fields[11] == 28:
            size = struct.unpack_from("<Q", data, extra_at + 4)[0]
        try:
            members.append((bytes(data[name_at:extra_at]).decode(), size))
        except UnicodeDecodeError:
            raise ValueError("its directory is damaged (a name is not UTF-8)") from None
        crcs.append(fields[7])
    return _compare(data, members, crcs, start)


def _compare(data: memoryview, members: list[tuple[str, int]], crcs: list[int], start: int) -> list[Entry]:
    """Rebuild every header from the members and compare it with the file's."""
    placed, zip64 = layout(members)
    entries = [Entry(e.name, e.size, e.header, e.data, crc) for e, crc in zip(placed, crcs, strict=True)]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a member is there twice")
    end = entries[-1].data + entries[-1].size if entries else 0
    if end != start or directory(entries, zip64) != data[start:]:
        raise ValueError("its directory is damaged")
    for entry in entries:
        if local_header(entry, zip64) != data[entry.header : entry.data]:
            raise ValueError(f"the header of {entry.name} is damaged")
    return entries
