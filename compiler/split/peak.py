"""Says which kernel holds a plan's peak, and the buffers alive in it."""

from __future__ import annotations

from compiler.placement import Placement
from compiler.program import Program

SHOWN = 4  # buffers named


def alive(placement: Placement, i: int) -> int:
    """Bytes of the buffers alive in step `i`."""
    lives = zip(placement.buffers, placement.lives, strict=True)
    return sum(b.bytes for b, (first, last) in lives if first <= i <= last)


def peak_of(program: Program, placement: Placement) -> str:
    """The step with the most bytes alive, and its largest buffers, for a message."""
    lives = list(zip(placement.buffers, placement.lives, strict=True))
    if not lives:
        return "no step: the arena is empty"

    worst = max(range(len(program.steps)), key=lambda i: alive(placement, i))
    held = sorted((b for b, (first, last) in lives if first <= worst <= last), key=lambda b: -b.bytes)
    names = ", ".join(f"{b.name} {b.bytes}" for b in held[:SHOWN])
    step = program.steps[worst]
    return f"step {worst}, {step.name} ({step.op}), {alive(placement, worst)} bytes: {names}"
