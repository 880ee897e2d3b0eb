"""Run the planners until one meets the lower bound, keep the smallest arena, and have it judged before any use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.memory.exact import EFFORT, exact, solve
from compiler.memory.place import arena_bytes
from compiler.memory.planners import PLANNERS
from compiler.memory.request import Planner, Request, lower_bound
from compiler.memory.validate import validate


@dataclass(frozen=True)
class Plan:
    """Where each request lies in the arena. All in bytes."""

    offsets: list[int]
    arena_bytes: int
    lower_bound: int  # no plan for the same order of steps can be smaller: the fullest step, or more where proven
    planner: str  # the one that found it


def plan(requests: Sequence[Request], planners: Mapping[str, Planner] = PLANNERS, effort: int = EFFORT) -> Plan:
    """The smallest plan that any of `planners` finds for `requests`; the same input gives the same plan.

    The exact planner may spend `effort` (visits of buffers and sections; see exact.py, which also has THOROUGH) to
    improve on the best of those before it, and to prove that no plan is smaller.

    Raises ValueError for a request with a negative size or that ends before it begins, and RuntimeError when the
    validator faults the plan (a bug in a planner).
    """
    for request in requests:
        if request.size < 0 or request.first > request.last:
            raise ValueError(f"{request} cannot be placed: sizes are at least 0 and a buffer ends after it begins")
    bound = lower_bound(requests)
    best: Plan | None = None
    for name, planner in planners.items():
        if planner is exact:
            found = solve(requests, best.offsets if best else None, effort)
            offsets, bound = found.offsets, found.lower_bound
        else:
            offsets = planner(requests)
        arena = arena_bytes(requests, offsets)
        if best is None or arena < best.arena_bytes:
            best = Plan(offsets, arena, bound, name)
        if best.arena_bytes == bound:
            break
    if best is None:
        raise ValueError("no planner given")
    best = replace(best, lower_bound=bound)
    faults = validate(requests, best.offsets, best.arena_bytes)
    if faults:
        raise RuntimeError(f"planner {best.planner} made an invalid plan: {faults[0]}")
    return best
