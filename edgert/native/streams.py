"""Weights read while a model runs, through ctypes: the C runtime's edgert_stream (stream.h)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

from edgert.errors import EdgertError
from edgert.native.library import runtime
from flashload import visits

I64, PTR = ctypes.c_int64, ctypes.c_void_p
MESSAGE_BYTES = 512
STATS = ("pinned_bytes", "ring_bytes", "read_bytes", "reads", "wait_ns", "lookups", "lookup_reads",
         "chosen_rows", "chosen_missing", "chosen_bytes", "chosen_reads")  # fmt: skip


class Segment(ctypes.Structure):
    """edgert_segment."""

    _fields_ = [("offset", I64), ("size", I64), ("resident", I64), ("sha256", ctypes.c_uint8 * 32)]


class Visit(ctypes.Structure):
    """edgert_visit."""

    _fields_ = tuple((name, I64) for name in ("step", "begin", "end", "units", "first", "count"))


class Piece(ctypes.Structure):
    """edgert_piece."""

    _fields_ = (("segment", I64), ("weight", I64))


class Lookup(ctypes.Structure):
    """edgert_lookup."""

    _fields_ = tuple((field.name, I64) for field in fields(visits.Lookup))


class Layout(ctypes.Structure):
    """edgert_layout."""

    _fields_ = (
        *((name, I64) for name in ("weights", "segment_count", "visit_count", "piece_count", "lookup_count")),
        *((name, PTR) for name in ("segments", "visits", "pieces", "lookups")),
    )


class Streaming(ctypes.Structure):
    """edgert_streaming."""

    _fields_ = tuple(
        (name, I64)
        for name in ("start", "pinned_bytes", "ring_bytes", "block_bytes", "threads", "timeout_ms", "gap_bytes")
    )


class Stats(ctypes.Structure):
    """edgert_stream_stats."""

    _fields_ = tuple((name, I64) for name in STATS)


def _library() -> ctypes.CDLL:
    library = runtime()
    library.edgert_source_file.argtypes, library.edgert_source_file.restype = [ctypes.c_char_p], PTR
    library.edgert_stream_open.argtypes = [PTR, PTR, PTR, ctypes.c_char_p, I64]
    library.edgert_stream_open.restype = PTR
    library.edgert_stream_error.argtypes, library.edgert_stream_error.restype = [PTR], ctypes.c_char_p
    library.edgert_stream_figures.argtypes, library.edgert_stream_figures.restype = [PTR], Stats
    library.edgert_stream_predicted.argtypes, library.edgert_stream_predicted.restype = [PTR], I64
    library.edgert_stream_resize.argtypes, library.edgert_stream_resize.restype = [PTR, I64, I64], ctypes.c_int32
    library.edgert_stream_close.argtypes, library.edgert_stream_close.restype = [PTR], None
    return library


class Stream:
    """An open stream. `handle` goes to edgert_rt_run_streamed."""

    def __init__(
        self, path: str | os.PathLike[str], entry: visits.Stream, digests: Sequence[str], plan: Mapping[str, int],
        source: int | None = None,
    ) -> None:  # fmt: skip
        """entry: the manifest's `stream`. digests: of its segments, in hexadecimal. plan: the members of
        edgert_streaming. source: an edgert_source to read from instead of the file; the stream closes it.

        Raises EdgertError where the file cannot be read or what stays in memory is damaged."""
        self.handle: int | None = None
        self._library = library = _library()
        tables = _tables(entry, digests)
        layout = Layout(entry.weights, *(len(table) for table in tables),
                        *(ctypes.cast(table, PTR) for table in tables))  # fmt: skip
        self._tables = tables  # the stream goes on using them
        if source is None:
            source = library.edgert_source_file(os.fsencode(path))
            if not source:
                raise EdgertError(f"{path}: cannot be read while the model runs")
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self._plan = Streaming(**plan)
        self.handle = library.edgert_stream_open(
            ctypes.byref(layout), ctypes.byref(self._plan), source, message, MESSAGE_BYTES
        )
        if not self.handle:
            raise EdgertError(f"{path}: {message.value.decode(errors='replace')}")

    @property
    def error(self) -> str:
        """What went wrong in the last run."""
        return self._library.edgert_stream_error(self.handle).decode(errors="replace")

    def figures(self) -> dict[str, int]:
        """The members of edgert_stream_stats, and predicted_ns of a run like the latest; 0: nobody knows."""
        stats = self._library.edgert_stream_figures(self.handle)
        predicted = int(self._library.edgert_stream_predicted(self.handle))
        return {name: int(getattr(stats, name)) for name in STATS} | {"predicted_ns": predicted}

    def resize(self, pinned_bytes: int, ring_bytes: int) -> None:
        """Other sizes from now on. Raises EdgertError where what stays in memory cannot be read; then only closing
        is left."""
        if self._library.edgert_stream_resize(self.handle, pinned_bytes, ring_bytes):
            raise EdgertError(self.error)

    def close(self) -> None:
        """Stop the readers and give all memory back. Nobody may be running the model."""
        if self.handle:
            self._library.edgert_stream_close(self.handle)
            self.handle = None


def _tables(entry: visits.Stream, digests: Sequence[str]) -> list[Any]:
    """Arrays of segments, visits, pieces and lookups."""
    found, first = [], 0
    for v in entry.visits:
        found.append(Visit(v.step, v.begin, v.end, v.units, first, len(v.pieces)))
        first += len(v.pieces)
    pieces = [Piece(*piece) for v in entry.visits for piece in v.pieces]
    segments = [
        Segment(s.offset, s.size, int(s.resident), (ctypes.c_uint8 * 32)(*bytes.fromhex(digest)))
        for s, digest in zip(entry.segments, digests, strict=True)
    ]
    lookups = [Lookup(*astuple(table)) for table in entry.lookups]
    rows: tuple[tuple[Any, list[Any]], ...] = (
        (Segment, segments), (Visit, found), (Piece, pieces), (Lookup, lookups),
    )  # fmt: skip
    return [(kind * len(items))(*items) for kind, items in rows]
