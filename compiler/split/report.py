"""What was done to fit a budget of memory, as plain data for the manifest and as a note for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.placement import Placement
from compiler.program import Program

from .search import Choice


def whole_plan(program: Program, placement: Placement) -> dict[str, Any]:
    """The plan of a program with nothing split, to show beside the one that was made. Sizes in bytes.

    `steps` are the names of its kernel calls, `plan` its buffers as in the manifest, `macs` its multiply-accumulates.
    """
    return {
        "arena_bytes": placement.arena_bytes,
        "macs": sum(step.macs for step in program.steps),
        "steps": [step.name for step in program.steps],
        "plan": [
            {"name": buffer.name, "offset": buffer.offset, "size": buffer.bytes, "first": first, "last": last}
            for buffer, (first, last) in zip(placement.buffers, placement.lives, strict=True)
        ],
    }


def split_report(
    choices: Sequence[Choice], made: Program, whole: tuple[Program, Placement], ram: int, least: int
) -> tuple[dict[str, Any], str]:
    """The manifest's entry `split`, and a note: what was split, and what that costs in multiply-accumulates.

    least: the lowest peak, in bytes, that the search estimates for any plan; an estimate, as none of it was lowered.
    """
    before = whole_plan(*whole)
    extra = sum(step.macs for step in made.steps) - before["macs"]
    percent = 100 * extra / before["macs"] if before["macs"] else 0.0
    parts = [
        {
            "from": choice.region.nodes[0].name or "",
            "to": choice.region.exit.name or "",
            "operators": len(choice.region.nodes),
            "bands": choice.count,
            "of": "heads" if choice.region.heads else "rows",
        }
        for choice in choices
    ]
    report = {
        "ram": ram,
        "regions": parts,
        "extra_macs": extra,
        "extra_macs_percent": round(percent, 2),
        "least_estimate": least,
        "whole": before,
    }
    listed = "; ".join(f"{p['operators']} operators up to {p['to']} in {p['bands']} bands of {p['of']}" for p in parts)
    return report, f"split to fit {ram} bytes: {listed}; {percent:.1f} % more multiply-accumulates"
