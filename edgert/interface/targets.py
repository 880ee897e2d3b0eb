"""The targets that models can be compiled for."""

from collections.abc import Sequence
from dataclasses import dataclass

import targets
from edgert.interface.show import table
from targets.gpu import Gpu


@dataclass(frozen=True)
class TargetInfo:
    """A target by name; `runs_here` when this machine has its features, `host` when --target host means it.

    source_only: it is compiled to source, which nothing here runs."""

    name: str
    triple: str
    features: list[str]
    runs_here: bool
    host: bool
    source_only: bool


def list_targets() -> list[TargetInfo]:
    """All targets, by name."""
    flags = targets.host_features()
    try:
        host = targets.get_target("host").name
    except targets.UnknownTarget:
        host = ""
    found = sorted(targets.all_targets().items())
    made = []
    for name, t in found:
        source = isinstance(t, Gpu) and t.source_only
        made.append(
            TargetInfo(name, t.triple, list(t.features), not source and flags >= set(t.features), name == host, source)
        )
    return made


def targets_text(found: dict[str, Sequence[TargetInfo]]) -> None:
    """One row per target."""
    rows = []
    for target in found["targets"]:
        here = "source only" if target.source_only else "host" if target.host else "yes" if target.runs_here else "no"
        rows.append([target.name, target.triple, " ".join(target.features), here])
    table(["target", "triple", "features", "runs here"], rows, left=4)
