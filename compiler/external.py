"""Weights that stand in a flash which is read by blocks: each step's are in the arena while it runs, read one ahead.

The reads for a step start before the step ahead of it, so both are live at once: that is the double buffer, and the
memory planner places it like any other.
"""

from __future__ import annotations

from compiler.placement import Placement, place
from compiler.program import Buffer, Load, Program


def load_ahead(program: Program) -> Placement:
    """Gives every weight a buffer in the arena for each step that reads it; the program placed anew."""
    for step in program.steps:
        here: dict[int, Buffer] = {}
        for i, weight in enumerate(step.buffers):
            if weight.space != "weights":
                continue
            if id(weight) not in here:
                here[id(weight)] = Buffer(f"{weight.name}.read", "arena", weight.shape, weight.dtype, weight.bytes)
                step.loads.append(Load(weight, here[id(weight)]))
            step.buffers[i] = here[id(weight)]
    return place(program)
