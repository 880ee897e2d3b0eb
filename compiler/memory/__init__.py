"""Where every intermediate tensor lives: life times, one arena, several placement heuristics, a validator."""

from compiler.memory.liveness import Aliases, Interval, Step, liveness
from compiler.memory.plan import Plan, plan
from compiler.memory.request import ALIGNMENT, Planner, Request, align
from compiler.memory.validate import Fault, FaultKind, validate

__all__ = [
    "ALIGNMENT",
    "Aliases",
    "Fault",
    "FaultKind",
    "Interval",
    "Plan",
    "Planner",
    "Request",
    "Step",
    "align",
    "liveness",
    "plan",
    "validate",
]
