"""The manifest's entry `stream`, checked value by value: the C runtime trusts it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from flashload.layout import PAGE, Segment
from flashload.visits import Lookup, Stream, Visit

MOST = 1 << 46
KEYS = {"step", "weight", "offset", "size", "extent", "rows", "bytes", "io", "at", "item_bytes"}
CHOSEN = {"chosen", "used"}  # of rows that a step chooses
ENDS = {"ends"}  # of rows that a step chooses without further promises
AHEAD = {"ahead"}  # of those, where what the next one chooses is foretold


def parse_stream(value: Any, segments: Sequence[Segment], steps: int, inputs: int, arena_bytes: int) -> Stream:
    """The entry as data. Raises ValueError naming the first value that is wrong."""
    if not isinstance(value, dict) or not {"weights", "visits", "lookups"} <= value.keys():
        raise ValueError("stream is not an object of weights, visits and lookups")
    weights = _whole(value["weights"], 0, 1 << 20, "stream.weights")
    visits = []
    before = (0, 0, 0)  # step, end, units
    for number, entry in enumerate(_list(value["visits"], "stream.visits")):
        where = f"stream.visits[{number}]"
        step, begin, end, units, parts = _list(entry, where, 5)
        step, units = _whole(step, before[0], steps - 1, where), _whole(units, 1, MOST, where)
        begin, end = _whole(begin, 0, units - 1, where), _whole(end, 1, units, where)
        follows = before[1] if step == before[0] and number else 0
        if step == before[0] and number and before[1] == before[2] or begin != follows or end <= begin:
            raise ValueError(f"{where} does not go on where the visit before ends")
        before = (step, end, units)
        pieces = [_list(part, where, 2) for part in _list(parts, where)]
        visits.append(Visit(step, begin, end, units, tuple(
            (_whole(s, 0, len(segments) - 1, where), _whole(w, 0, weights - 1, where)) for s, w in pieces
        )))  # fmt: skip
    lookups = []
    total = segments[-1].offset + segments[-1].size if segments else 0
    for number, entry in enumerate(_list(value["lookups"], "stream.lookups")):
        where = f"stream.lookups[{number}]"
        if not isinstance(entry, dict) or entry.keys() not in (KEYS, KEYS | ENDS, KEYS | CHOSEN, KEYS | CHOSEN | AHEAD):
            raise ValueError(f"{where} is not an object of {', '.join(sorted(KEYS))}")
        limits = {"step": steps - 1, "weight": weights - 1, "io": inputs - 1, "at": arena_bytes, "item_bytes": 8}
        limits |= {"chosen": 1, "extent": 1 << 31, "ahead": arena_bytes, "ends": 1}
        least = {"io": -1, "size": 1, "extent": 1, "rows": 1, "bytes": 1, "item_bytes": 4}
        found = {key: _whole(entry[key], least.get(key, 0), limits.get(key, MOST), f"{where}.{key}") for key in entry}
        table = Lookup(**found)
        if (
            table.item_bytes not in (4, 8)
            or table.offset + table.size > total
            or (-(-table.extent // table.rows) > -(-table.size // table.bytes))
        ):
            raise ValueError(f"{where} is not a table within the weights")
        if table.chosen and (table.item_bytes != 4 or table.rows != 1 or not 0 < table.used <= table.bytes):
            raise ValueError(f"{where} is not a table whose rows are chosen one by one")
        lookups.append(table)
    return Stream(weights, tuple(segments), tuple(visits), tuple(lookups), _arena(value.get("arena", []), arena_bytes))


def _arena(value: Any, arena_bytes: int) -> tuple[tuple[int, int, int], ...]:
    where, most = "stream.arena", -(-arena_bytes // PAGE) * PAGE
    rows = [_list(entry, where) for entry in _list(value, where)]
    if any(len(row) not in (2, 3) for row in rows):
        raise ValueError(f"{where} is not a list of lists of 2 or 3")
    found = tuple(
        (_whole(n, 0, MOST, where), _whole(more[0], 0, MOST, where) if more else MOST, _whole(size, 0, most, where))
        for n, *more, size in rows
    )
    if any(a[:2] >= b[:2] for a, b in pairwise(found)):
        raise ValueError(f"{where} does not ascend")
    return found


def _whole(value: Any, low: int, high: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{where} is not a whole number from {low} to {high}")
    return value


def _list(value: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError(f"{where} is not a list" + ("" if length is None else f" of {length}"))
    return value
