"""Fits a graph into a budget of memory: plans from the search, each really lowered and placed before it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from compiler.frontend.facts import Constants, Facts
from compiler.fusion import Group, fuse
from compiler.passes import dead_code
from compiler.passes.edit import Edit
from compiler.placement import Placement
from compiler.program import Program
from compiler.verify import verify
from targets.errors import DoesNotFit
from targets.target import Target

from .estimate import Estimate
from .peak import peak_of
from .regions import Regions, late
from .report import split_report
from .rewrite import split
from .search import Plan, Search

NEAR = 1.2  # plans estimated at that much above a budget are worth a try
Lower = Callable[[ir.Model, Facts], tuple[Program, Placement]]


@dataclass
class Fit:
    """A program within the budget. report: what was split, the work it adds, the plan without (report.py)."""

    program: Program
    placement: Placement
    report: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def fit(graph: ir.Model, facts: Facts, target: Target, lower: Lower, whole: tuple[Program, Placement], ram: int) -> Fit:
    """The program of the least extra work found whose arena is at most `ram` bytes. `whole`: that with nothing split.

    lower: a graph to a program with everything in its place. The graph itself stays as it is. Raises DoesNotFit with
    the least arena that any plan reached; any budget from that on compiles.
    """
    if whole[1].arena_bytes <= ram:
        return Fit(*whole, {"ram": ram, "regions": [], "extra_macs_percent": 0.0})
    edit = Edit(graph, facts)
    groups = _groups(graph, facts)
    regions = Regions(edit, groups)
    ladder = [plan for plan in Search(regions, Estimate(edit, groups, regions, whole[0])).ladder() if plan.choices]
    made: dict[int, tuple[Program, Placement]] = {}

    def arena(rung: int) -> int:
        if rung not in made:
            made[rung] = lower(*_rewritten(graph, facts, target, ladder[rung]))
        return made[rung][1].arena_bytes

    # estimates are now too high, now too low: plans a little above the budget get their chance too, and every plan
    # estimated near what is reported as the floor is tried before it is reported
    for rung, plan in enumerate(ladder):
        if plan.peak <= NEAR * ram and arena(rung) <= ram:
            return _fit(plan, made[rung], whole, ram, ladder[-1].peak)
    for rung in reversed(range(len(ladder))):
        lowest = min((m[1].arena_bytes for m in made.values()), default=0)
        if ladder[rung].peak > NEAR * max(ladder[-1].peak, lowest):
            break
        if arena(rung) <= ram:
            return _fit(ladder[rung], made[rung], whole, ram, ladder[-1].peak)
    least = min((made[i] for i in made), key=lambda m: m[1].arena_bytes, default=whole)
    if least[1].arena_bytes >= whole[1].arena_bytes:
        least = whole
    need = least[1].arena_bytes
    tried = f"of {len(made)} ways to split them the best takes {need}" if made else "and none can be split"
    raise DoesNotFit(
        f"does not fit: need {need} bytes of arena, have {ram} (--ram); whole operators take {whole[1].arena_bytes}, "
        f"{tried}; the nearest budget that works is --ram {need}. The most is alive in {peak_of(*least)}"
    )


def _groups(model: ir.Model, facts: Facts) -> list[Group]:
    nodes = [n for n in model.graph if any(o.name not in facts.constants for o in n.outputs)]
    return late(fuse(nodes, facts, {str(v.name) for v in model.graph.outputs}))


def _rewritten(graph: ir.Model, facts: Facts, target: Target, plan: Plan) -> tuple[ir.Model, Facts]:
    """A copy of the graph with the plan's regions split."""
    model = graph.clone()
    constants = Constants()
    for name in facts.constants:
        constants[name] = facts.constants.tensor(name)
    own = Facts(
        dict(facts.values), constants, dict(facts.symbolic), dict(facts.bounds), dict(facts.vars), set(facts.fresh),
        dict(facts.opsets), list(facts.problems), facts.notes,
    )  # fmt: skip
    edit = Edit(model, own)
    regions = Regions(edit, _groups(model, own))
    found = [
        (
            next(r for r in regions.ending(c.region.stop) if (r.start, r.heads) == (c.region.start, c.region.heads)),
            c.count,
        )
        for c in plan.choices
    ]
    # from the last to the first: what comes into a later one may be the exit of an earlier one
    for region, count in reversed(found):
        split(edit, region, count)
    dead_code.run(edit, target)
    verify(model, own, "split")
    return model, own


def _fit(plan: Plan, made: tuple[Program, Placement], whole: tuple[Program, Placement], ram: int, least: int) -> Fit:
    report, note = split_report(plan.choices, made[0], whole, ram, least)
    return Fit(*made, report, [note])
