"""Run every placement heuristic, keep the smallest arena, and have it judged before anyone uses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.memory.place import arena_bytes
from compiler.memory.planners import PLANNERS
from compiler.memory.request import Planner, Request, lower_bound
from compiler.memory.validate import validate


@dataclass(frozen=True)
class Plan:
    """Where each request lies in the arena. All in bytes."""

    offsets: list[int]
    arena_bytes: int
    lower_bound: int  # no plan for the same order of steps can be smaller
    planner: str  # the heuristic that found it


def plan(requests: Sequence[Request], planners: Mapping[str, Planner] = PLANNERS) -> Plan:
    """The smallest plan that any of `planners` finds for `requests`; the same input gives the same plan.

    Raises ValueError for a request with a negative size or that ends before it begins, and RuntimeError when the
    validator faults the plan (a bug in a planner).
    """
    for request in requests:
        if request.size < 0 or request.first > request.last:
            raise ValueError(f"{request} cannot be placed: sizes are at least 0 and a buffer ends after it begins")
    bound = lower_bound(requests)
    best: Plan | None = None
    for name, planner in planners.items():
        offsets = planner(requests)
        arena = arena_bytes(requests, offsets)
        if best is None or arena < best.arena_bytes:
            best = Plan(offsets, arena, bound, name)
        if arena == bound:
            break
    if best is None:
        raise ValueError("no planner given")
    faults = validate(requests, best.offsets, best.arena_bytes)
    if faults:
        raise RuntimeError(f"planner {best.planner} made an invalid plan: {faults[0]}")
    return best
