"""What of a program's weights can be read while it runs, as C tables (edgert/native/stream.h)."""

from __future__ import annotations

from dataclasses import astuple

from flashload.visits import Stream


def layout_tables(stream: Stream | None, segments: int) -> tuple[str, str]:
    """C source of the tables, and the expression that points to them. The segments' SHA-256 stand in the program's file
    (before the trailer) and are filled in when it starts."""
    if stream is None:
        return "", f"NULL, NULL, {segments}, NULL, 0"
    first, visits = 0, []
    for v in stream.visits:
        visits.append(f"{{{v.step}, {v.begin}, {v.end}, {v.units}, {first}, {len(v.pieces)}}}")
        first += len(v.pieces)
    pieces = [f"{{{segment}, {weight}}}" for v in stream.visits for segment, weight in v.pieces]
    parts = [f"{{{s.offset}, {s.size}, {int(s.resident)}, {{0}}}}" for s in stream.segments]
    lookups = ["{" + ", ".join(map(str, astuple(table))) + "}" for table in stream.lookups]
    lines = [f"static edgert_segment segments[] = {{{', '.join(parts)}}};"]
    for kind, name, rows in (
        ("edgert_visit", "visits", visits), ("edgert_piece", "pieces", pieces), ("edgert_lookup", "lookups", lookups),
    ):  # fmt: skip
        lines.append(f"static const {kind} {name}[] = {{{', '.join(rows) or '{0}'}}};")
    counts = f"{stream.weights}, {len(parts)}, {len(visits)}, {len(pieces)}, {len(lookups)}"
    lines.append(f"static const edgert_layout layout = {{{counts}, segments, visits, pieces, lookups}};")
    uses = ", ".join(f"{{{n}, {m}, {size}}}" for n, m, size in stream.arena)
    lines.append(f"static const edgert_arena_use arena[] = {{{uses or '{0}'}}};")
    return "\n".join(lines) + "\n", f"&layout, segments, {segments}, arena, {len(stream.arena)}"
