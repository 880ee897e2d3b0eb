"""The arena over time out of a manifest: what is live when, the peak, and the plan before operators were split."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgert.units import format_bytes

SHOWN = 5  # steps named in the text


class Peak(NamedTuple):
    """The first step in which the most bytes are live."""

    step: int
    bytes: int


def live_bytes(plan: Sequence[Mapping[str, Any]], steps: int) -> list[int]:
    """Bytes live in each of `steps` steps. plan: a manifest's list of buffers (name, offset, size, first, last)."""
    change = [0] * (steps + 1)
    for buffer in plan:
        change[min(buffer["first"], steps)] += buffer["size"]
        change[min(buffer["last"] + 1, steps)] -= buffer["size"]
    live, total = [], 0
    for step in range(steps):
        total += change[step]
        live.append(total)
    return live


def peak_of(live: Sequence[int]) -> Peak | None:
    """The peak of `live` (bytes in each step); None where there is no step."""
    return Peak(live.index(max(live)), max(live)) if live else None


def memory_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The arena over time as plain data: its bytes, those live in each step, the peak, and the plan.

    Raises ValueError for a plan whose life times are not those of the steps.
    """
    memory = _memory(manifest, [step["name"] for step in manifest["steps"]], "plan")
    return {**memory, "planner": manifest["planner"]} if "planner" in manifest else memory


def split_of(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was done for a budget, the plan before with what was live in each step; None where there was no budget.

    Raises ValueError for an entry `split` that is not as docs/artifact.md describes it.
    """
    split = manifest.get("split")
    if split is None:
        return None
    try:
        if not isinstance(split["ram"], int) or not isinstance(split["regions"], list):
            raise TypeError
        for region in split["regions"]:
            region_text(region)
        if "whole" not in split:
            return dict(split)
        whole, extra = split["whole"], float(split["extra_macs_percent"])
        names, arena = [str(name) for name in whole["steps"]], whole["arena_bytes"] + 0
    except (KeyError, TypeError, ValueError):
        raise ValueError("its `split` is not what docs/artifact.md says") from None
    memory = _memory({"arena_bytes": arena, "plan": whole["plan"]}, names, "split.whole.plan")
    return {**split, "extra_macs_percent": extra, "whole": {**whole, **memory}}


def _memory(source: Mapping[str, Any], steps: Sequence[str], where: str) -> dict[str, Any]:
    plan, arena = source["plan"], source["arena_bytes"]
    try:
        right = all(
            0 <= buffer["first"] <= buffer["last"] < len(steps)
            and 0 <= buffer["offset"] <= buffer["offset"] + buffer["size"] <= arena
            and isinstance(buffer["name"], str)
            for buffer in plan
        )
        live = live_bytes(plan, len(steps)) if right else []
    except (KeyError, TypeError):
        right, live = False, []
    if not right:
        raise ValueError(f"its `{where}` does not go with its steps and its arena")
    peak = peak_of(live)
    told = None if peak is None else {"step": peak.step, "name": steps[peak.step], "bytes": peak.bytes}
    return {"arena_bytes": arena, "live_bytes": live, "peak": told, "plan": plan}


def memory_text(manifest: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    """The arena and the steps in which most of it is live. memory: from `memory_of`."""
    live = memory["live_bytes"]
    lines = [f"  arena   {format_bytes(memory['arena_bytes'])}"]
    for step in sorted(range(len(live)), key=lambda step: (-live[step], step))[:SHOWN]:
        entry = manifest["steps"][step]
        lines.append(
            f"    {format_bytes(live[step]):>10} live in step {step}: {entry['name']} ({entry.get('op', '?')})"
        )
    return "\n".join(lines)


def region_text(region: Mapping[str, Any]) -> str:
    """A run of operators that was split, in words."""
    return f"{region['operators']} operators up to {region['to']} in {region['bands']} bands of {region['of']}"


def split_text(split: Mapping[str, Any]) -> str:
    """What was done for the budget, what it costs, and the arena before. split: from `split_of`."""
    ram = format_bytes(split["ram"])
    if not split["regions"]:
        return f"  budget  {ram}: whole operators fit"
    lines = [f"  budget  {ram}: operators split, {split['extra_macs_percent']:.1f} % more multiply-accumulates"]
    lines += [f"    {region_text(region)}" for region in split["regions"]]
    if "whole" in split:
        whole = split["whole"]
        lines.append(f"    whole, the arena would be {format_bytes(whole['arena_bytes'])}")
    if "least_estimate" in split:
        lines.append(f"    the least of any split is estimated at {format_bytes(split['least_estimate'])}")
    return "\n".join(lines)
