"""The verdicts as a table per operator, as totals, and as the table in README.md."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.readme import update

BEGIN, END = "<!-- operators:begin -->", "<!-- operators:end -->"


@dataclass(frozen=True)
class Row:
    """One operator's counts. wrong includes crashed."""

    operator: str
    cases: int
    passed: int
    constant: int  # of those passed, only with shape-like inputs as constants
    refused: int
    wrong: int
    reason: str  # the commonest reason of a refusal


def rows(verdicts: Iterable[dict]) -> list[Row]:
    """A row for each operator, by name."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict["operator"]].append(verdict)
    result = []
    for operator, members in sorted(groups.items(), key=lambda item: item[0].lower()):
        kinds = Counter(m["verdict"] for m in members)
        reasons = Counter(short_reason(m["reason"]) for m in members if m["verdict"] == "refused")
        result.append(
            Row(
                operator, len(members), kinds["passed"],
                sum(m["constant"] for m in members if m["verdict"] == "passed"),
                kinds["refused"], kinds["wrong"] + kinds["crashed"],
                reasons.most_common(1)[0][0] if reasons else "",
            )
        )  # fmt: skip
    return result


def short_reason(reason: str) -> str:
    """A refusal without the names of nodes, short enough for a table."""
    reason = re.sub(r"^.*?\bnot? supported:?\s*", "", reason)
    return reason if len(reason) <= 90 else reason[:87] + "..."


def table(found: Sequence[Row]) -> str:
    """The rows for a terminal."""
    width = max([len(r.operator) for r in found] + [8])
    lines = [f"{'operator':<{width}} cases passed (constant shapes) refused wrong"]
    lines += [f"{r.operator:<{width}} {r.cases:5} {r.passed:6} {r.constant:17} {r.refused:7} {r.wrong:5}  {r.reason}"
              for r in found]  # fmt: skip
    return "\n".join(lines)


def totals(verdicts: Sequence[dict]) -> str:
    """The line of totals. Skipped are the refused, failed the wrong and the crashed."""
    kinds = Counter(v["verdict"] for v in verdicts)
    constant = sum(v["constant"] for v in verdicts if v["verdict"] == "passed")
    failed = kinds["wrong"] + kinds["crashed"]
    return (
        f"{kinds['passed']} passed, {failed} failed, {kinds['refused']} skipped\n"
        f"{kinds['passed']} passed (of those {constant} with shape inputs as constants), {kinds['refused']} refused "
        f"with a reason, {kinds['wrong']} wrong, {kinds['crashed']} crashed, of {len(verdicts)} cases"
    )


def markdown(verdicts: Sequence[dict]) -> str:
    """The table of README.md: every operator with a case that passes, then the names of those without."""
    found = rows(verdicts)
    lines = [
        totals(verdicts).splitlines()[1] + ".",
        "",
        "| operator | passed | of | refused because |",
        "|---|--:|--:|---|",
    ]
    for r in found:
        if r.passed:
            reason = r.reason.replace("|", "\\|") if r.refused else ""
            lines.append(f"| {r.operator} | {r.passed} | {r.cases} | {reason} |")
    none = [r.operator for r in found if not r.passed]
    if none:
        lines += ["", "Refused in every form: " + ", ".join(none) + "."]
    return "\n".join(lines)


def update_readme(path: Path, verdicts: Sequence[dict]) -> None:
    """Replaces what stands between the markers. Raises ValueError when README.md has no markers."""
    update("operators", markdown(verdicts), path)
