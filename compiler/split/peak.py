"""Says which kernel holds a plan's peak, and the buffers alive in it."""

from __future__ import annotations

from typing import Any

from compiler.placement import Placement
from compiler.program import Program

SHOWN = 4  # buffers named
LONGEST = 60  # characters of a name


def alive(placement: Placement, i: int) -> int:
    """Bytes of the buffers alive in step `i`."""
    lives = zip(placement.buffers, placement.lives, strict=True)
    return sum(b.bytes for b, (first, last) in lives if first <= i <= last)


def peak(program: Program, placement: Placement) -> dict[str, Any]:
    """The step with the most bytes alive, and the buffers, largest first."""
    lives = list(zip(placement.buffers, placement.lives, strict=True))
    worst = max(range(len(program.steps)), key=lambda i: alive(placement, i), default=0)
    held = sorted((b for b, (first, last) in lives if first <= worst <= last), key=lambda b: -b.bytes)
    step = program.steps[worst] if program.steps else None
    return {
        "step": worst,
        "name": step.name if step else "",
        "op": step.op if step else "",
        "bytes": alive(placement, worst),
        "buffers": [{"name": b.name, "bytes": b.bytes} for b in held],
    }


def peak_of(program: Program, placement: Placement) -> str:
    """The same for a message, with the largest buffers."""
    found = peak(program, placement)
    if not found["buffers"]:
        return "no step: the arena is empty"
    names = ", ".join(f"{_short(b['name'])} {b['bytes']}" for b in found["buffers"][:SHOWN])
    return f"step {found['step']}, {_short(found['name'])} ({found['op']}), {found['bytes']} bytes: {names}"


def _short(name: str) -> str:
    """Exporters' names may be paths of hundreds of characters, whose ends tell them apart."""
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
