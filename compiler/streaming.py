"""Weights that can be read while the model runs: which parts of which steps read which segments of weights.bin.

A weight that is not small gets a base of its own: code finds it at ctx.bases[base] + offset, wherever the runtime put
the piece that a part of a step needs (edgert/native/stream.h). flashload/layout.py cuts weights; this file tells it
where, and works out the visits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from compiler.arena_pages import arena_pages
from compiler.placement import weights_of
from compiler.program import Buffer, Program, Step
from flashload.layout import LEAST, PAGE, Layout, Weight, cut, lay_out
from targets.dtypes import item_size
from targets.kernels.reach import holds
from targets.kernels.reading import Reading, Rows, Span
from targets.kernels.stage import Stage, structure
from targets.kernels.tensor import extent
from targets.target import Target


def lay_weights(programs: Sequence[Program], target: Target) -> Layout | None:
    """Places the weights of the programs of one artifact and gives those that can be streamed their bases.

    None, and nothing done, where none can: no weight is large, or the target has no system to read with.
    """
    buffers = weights_of(*programs)
    if "linux" not in target.triple or all(buffer.bytes < LEAST for buffer in buffers):
        return None
    pieces: dict[int, int] = {}
    checked: dict[tuple, bool] = {}
    for program in programs:
        for step in program.steps:
            if not all(_true(step.stage, span, program, checked) for span in step.stage.reading.spans):
                step.stage.reading = Reading()
            spans = [(span, buffer) for span, buffer in _spans(step) if buffer.bytes >= LEAST]
            tables = _tables(step)
            for table, size in tables:
                alone = size >= LEAST and size % PAGE == 0  # experts, which stay one by one
                pieces.setdefault(id(table), size if alone else cut([each for _, each in tables]) * size)
            for span, buffer in spans:
                beside = [other.bytes for other, _ in spans if (other.first, other.units) == (span.first, span.units)]
                pieces.setdefault(id(buffer), cut(beside) * span.bytes)
    stay = {id(b) for program in programs for step in program.steps for b in _beside_rows(step)}
    layout = lay_out([
        Weight(b.bytes, pieces.get(id(b), 0), id(b) in stay or _uses(b, programs) > 1) for b in buffers
    ])  # fmt: skip
    base = 0
    for buffer, offset, part in zip(buffers, layout.offsets, layout.parts, strict=True):
        buffer.offset = offset
        if part is not None:
            buffer.base, base = base, base + 1
    return layout


def _uses(buffer: Buffer, programs: Sequence[Program]) -> int:
    """The most steps of a program that read more of a weight than single rows."""

    def reads(step: Step) -> bool:
        return buffer in step.buffers and all(table is not buffer for table, _ in _tables(step))

    return max(sum(reads(step) for step in program.steps) for program in programs)


def stream_entry(program: Program, programs: Sequence[Program], layout: Layout) -> dict[str, Any]:
    """The manifest's entry `stream` of one program: see docs/artifact.md."""
    parts = {id(b): part for b, part in zip(weights_of(*programs), layout.parts, strict=True) if part is not None}
    visits: list[list[Any]] = []
    lookups: list[dict[str, Any]] = []
    for number, step in enumerate(program.steps):
        looked_up = _lookups(step)
        if looked_up:
            lookups += [{"step": number, **table} for table in looked_up]
        elif any(id(buffer) in parts for buffer in step.buffers):
            visits += [[number, *visit] for visit in _visits(step, parts, layout)]
    return {"weights": len(parts), "visits": visits, "lookups": lookups, "arena": arena_pages(program)}


def _tables(step: Step) -> list[tuple[Buffer, int]]:
    """The tables of which a step reads single rows, and the bytes of those that lie together."""
    pairs = list(zip(step.stage.operands, step.buffers, strict=True))
    return [(buffer, rows.bytes) for rows in step.stage.reading.tables for leaf, buffer in pairs if leaf is rows.leaf]


def _beside_rows(step: Step) -> list[Buffer]:
    """What a step reads whole beside rows that it chooses, which stays in memory."""
    rows, tables = step.stage.reading.rows, [table for table, _ in _tables(step)]
    return [] if rows is None or not rows.chosen else [b for b in step.buffers if all(t is not b for t in tables)]


def _spans(step: Step) -> Iterator[tuple[Span, Buffer]]:
    """The spans of a step's weights."""
    for span in step.stage.reading.spans:
        for leaf, buffer in zip(step.stage.operands, step.buffers, strict=True):
            if leaf is span.leaf:
                yield span, buffer


def _true(stage: Stage, span: Span, program: Program, checked: dict[tuple, bool]) -> bool:
    """Whether the kernel reads what it says: its first, middle and last units, at least and most of every dimension."""
    key = (structure(stage.func), stage.reading.units, span.first, span.units, span.bytes)
    if key not in checked:
        units = {0, span.first, span.first + span.units // 2, span.first + span.units - 1, stage.reading.units - 1}
        checked[key] = all(
            holds(stage, span, unit, extent(stage.tasks, dims), dims)
            for dims in ({v.name: program.bounds[v.name][which] for v in stage.dims} for which in (0, 1))
            for unit in units
        )
    return checked[key]


def _visits(step: Step, parts: dict[int, range], layout: Layout) -> Iterator[list[Any]]:
    """[begin, end, units, [[segment, weight], ...]] for each part of a step."""
    spans: list[tuple[int, int, int, Buffer]] = []  # first unit, the one behind the last, bytes of one
    units = max(1, step.stage.reading.units)
    known = {id(buffer): span for span, buffer in _spans(step)}
    for buffer in {id(b): b for b in step.buffers if id(b) in parts}.values():
        span = known.get(id(buffer))
        spans.append((span.first, span.first + span.units, span.bytes, buffer) if span else (0, units, 0, buffer))
    # between two visits every weight is at a segment's end, or not in use
    ends = [b for b in range(1, units) if all(_between(b, s, parts, layout) for s in spans)]
    for begin, end in zip([0, *ends], [*ends, units], strict=True):
        pieces = []
        for first, last, size, buffer in spans:
            low, high = (max(begin, first) - first) * size, (min(end, last) - first) * size
            for segment in parts[id(buffer)]:
                at = layout.segments[segment].offset - buffer.offset
                if size == 0 or (low < high and at < high and low < at + layout.segments[segment].size):
                    pieces.append([segment, buffer.base])
        yield [begin, end, units, pieces]


def _between(unit: int, span: tuple[int, int, int, Buffer], parts: dict[int, range], layout: Layout) -> bool:
    first, last, size, buffer = span
    if not first < unit < last:
        return True
    at = buffer.offset + (unit - first) * size
    return size > 0 and any(layout.segments[segment].offset == at for segment in parts[id(buffer)])


def _lookups(step: Step) -> list[dict[str, Any]]:
    """What a step says of the tables that it reads single rows of and that can be streamed, where nothing else can."""
    tables = [table for table, _ in _tables(step)]
    if any(buffer.base >= 0 and all(table is not buffer for table in tables) for buffer in step.buffers):
        return []
    of = {id(leaf): buffer for leaf, buffer in zip(step.stage.operands, step.buffers, strict=True)}
    return [_lookup(rows, of) for rows in step.stage.reading.tables if of[id(rows.leaf)].base >= 0]


def _lookup(rows: Rows, of: dict[int, Buffer]) -> dict[str, Any]:
    table, (indices, at) = of[id(rows.leaf)], of[id(rows.indices)].root()
    more: dict[str, Any] = {"chosen": 1, "used": rows.used} if rows.chosen else {}
    if rows.ahead is not None:
        ahead, inside = of[id(rows.ahead)].root()
        more["ahead"] = ahead.offset + inside
    if rows.ends:
        more["ends"] = 1
    place = {"io": indices.index, "at": at} if indices.space == "io" else {"io": -1, "at": indices.offset + at}
    return {
        "weight": table.base, "offset": table.offset, "size": table.bytes, "extent": rows.extent,
        "rows": rows.rows, "bytes": rows.bytes,
        "item_bytes": item_size(rows.indices.dtype), **place, **more,
    }  # fmt: skip
