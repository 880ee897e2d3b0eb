"""Fits a graph into a budget of memory: plans from the search, each really lowered and placed before it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from compiler.frontend.facts import Constants, Facts
from compiler.fusion import Group, fuse
from compiler.passes import dead_code
from compiler.passes.edit import EDGERT, Edit
from compiler.placement import Placement
from compiler.program import Program
from compiler.verify import verify
from targets.errors import DoesNotFit
from targets.target import Target

from .estimate import Estimate
from .peak import alive, peak, peak_of
from .recompute import recompute
from .regions import Regions, late
from .report import split_report
from .rewrite import split
from .search import Plan, Search

NEAR = 1.1  # plans estimated at that much above a budget are worth a try
HEADS = "IntegerAttention"  # has scratch space for every head
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
    made = [whole]
    heads = [i for i, step in enumerate(whole[0].steps) if step.op == HEADS]
    if not any(alive(whole[1], i) > ram for i in heads):
        found = _search(_Attempt(graph, facts, target, lower, whole, whole, ram, last=not heads), made)
        if found:
            return found
    # one head after the other, in scratch space for one; at last with the queries' input made again
    attempts = [_serial(graph, facts, again) for again in (False, True)] if heads else []
    attempts = [attempt for i, attempt in enumerate(attempts) if not i or attempt[2]]
    for i, (serial, known, recomputed) in enumerate(attempts):
        made.append(lower(serial, known))
        last = i == len(attempts) - 1
        found = _search(
            _Attempt(serial, known, target, lower, made[-1], whole, ram, len(heads), recomputed, last), made
        )
        if found:
            return found
    least = min(made, key=lambda m: m[1].arena_bytes)
    need = least[1].arena_bytes
    tried = f"of {len(made) - 1} ways to split them the best takes {need}" if made[1:] else "and none can be split"
    if whole[0].bounds:
        tried += " (open dimensions are not split: fix them with --shape)"
    raise DoesNotFit(
        f"does not fit: need {need} bytes of arena, have {ram} (--ram); whole operators take {whole[1].arena_bytes}, "
        f"{tried}; the nearest budget that works is --ram {need}. The most is alive in {peak_of(*least)}",
        need=need, have=ram, whole=whole[1].arena_bytes, peak=peak(*least),
    )  # fmt: skip


def _serial(graph: ir.Model, facts: Facts, again: bool) -> tuple[ir.Model, Facts, int]:
    """A copy whose attentions do one head after the other; for how many the queries' input is made again."""
    serial, known = _copy(graph, facts)
    edit = Edit(serial, known)
    for node in edit.nodes(HEADS, domain=EDGERT):
        node.attributes["lean"] = ir.AttrInt64("lean", 1)
    return serial, known, recompute(edit) if again else 0


@dataclass
class _Attempt:
    """A graph to split. base: its program with nothing split; whole: that of the graph as it came."""

    graph: ir.Model
    facts: Facts
    target: Target
    lower: Lower
    base: tuple[Program, Placement]
    whole: tuple[Program, Placement]
    ram: int
    serial: int = 0  # attentions that do one head after the other
    recomputed: int = 0  # of them, those whose queries normalize their rows again
    last: bool = True  # whether no other attempt comes after it

    def fit(self, plan: Plan | None, made: tuple[Program, Placement], least: int) -> Fit:
        """The result. least: the lowest peak that the search estimates for any plan."""
        report, note = split_report(plan.choices if plan else (), made[0], self.whole, self.ram, least)
        if self.serial:
            report["serial_attentions"] = self.serial
            note += f"; {self.serial} attentions do one head after the other on one thread"
        if self.recomputed:
            report["recomputed_normalizations"] = self.recomputed
            note += f", {self.recomputed} of them with their queries' input normalized again"
        return Fit(*made, report, [note])


def _search(work: _Attempt, made: list[tuple[Program, Placement]]) -> Fit | None:
    """The plan of the least extra work within the budget, if there is one; adds all that were lowered to `made`."""
    if work.base[1].arena_bytes <= work.ram:
        return work.fit(None, work.base, work.base[1].arena_bytes)
    edit = Edit(work.graph, work.facts)
    groups = _groups(work.graph, work.facts)
    regions = Regions(edit, groups)
    estimate = Estimate(edit, groups, regions, work.base[0])
    ladder = [plan for plan in Search(regions, estimate).ladder() if plan.choices]
    # estimates are now too high, now too low: plans a little above the budget get their chance too, and every plan
    # estimated near the least is tried before a floor is reported. A larger budget tries all that a smaller one does,
    # so that any budget from the floor on compiles
    most = NEAR * max(work.ram, ladder[-1].peak if work.last and ladder else 0)
    for plan in ladder:  # from the least work on
        if plan.peak <= most:
            made.append(work.lower(*_rewritten(work.graph, work.facts, work.target, plan)))
            if made[-1][1].arena_bytes <= work.ram:
                return work.fit(plan, made[-1], ladder[-1].peak)
    return None


def _groups(model: ir.Model, facts: Facts) -> list[Group]:
    nodes = [n for n in model.graph if any(o.name not in facts.constants for o in n.outputs)]
    return late(fuse(nodes, facts, {str(v.name) for v in model.graph.outputs}))


def _copy(graph: ir.Model, facts: Facts) -> tuple[ir.Model, Facts]:
    constants = Constants()
    for name in facts.constants:
        constants[name] = facts.constants.tensor(name)
    own = Facts(
        dict(facts.values), constants, dict(facts.symbolic), dict(facts.bounds), dict(facts.vars), set(facts.fresh),
        dict(facts.opsets), list(facts.problems), facts.notes,
    )  # fmt: skip
    return graph.clone(), own


def _rewritten(graph: ir.Model, facts: Facts, target: Target, plan: Plan) -> tuple[ir.Model, Facts]:
    """A copy of the graph with the plan's regions split."""
    model, own = _copy(graph, facts)
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
