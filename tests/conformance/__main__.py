"""python -m tests.conformance [--filter RE] [--every N] [--jobs N] [--json FILE] [--record] [--update-readme]

Exit code 0 when no case is wrong or crashed, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

from .cases import all_cases
from .report import rows, table, totals, update_readme
from .workers import run_cases

RECORD = Path(__file__).with_name("recorded.json")
README = Path(__file__).parents[2] / "README.md"
SAMPLE = 8  # tests take every eighth case


def main(arguments: list[str] | None = None) -> int:
    """Runs the cases and prints the verdicts."""
    parser = argparse.ArgumentParser("tests.conformance", description=__doc__)
    parser.add_argument("--filter", default="", help="only cases whose name or operator matches this expression")
    parser.add_argument("--every", type=int, default=1, help="only every N-th case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    parser.add_argument("--record", action="store_true", help="write the counts that the tests compare with")
    parser.add_argument("--update-readme", action="store_true", help="write the operator table of README.md")
    options = parser.parse_args(arguments)
    if (options.record or options.update_readme) and (options.filter or options.every != 1):
        parser.error("--record and --update-readme need all cases")
    pattern = re.compile(options.filter)
    cases = [c for c in all_cases()[:: options.every] if pattern.search(c.name) or pattern.fullmatch(c.operator)]
    if not cases:
        parser.error(f"no case matches {options.filter!r}")
    verdicts: list[dict] = [{}] * len(cases)
    shown, started = sys.stderr.isatty(), time.monotonic()
    for done, (index, verdict) in enumerate(run_cases(cases, options.jobs), 1):
        verdicts[index] = verdict
        if shown:
            print(f"\r{done} of {len(cases)}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r", end="", file=sys.stderr)
    for verdict in verdicts:
        if verdict["verdict"] in ("wrong", "crashed"):
            print(f"{verdict['verdict']} {verdict['name']}: {verdict['reason']}")
        elif verdict["verdict"] == "passed" and verdict["reason"]:
            print(f"note {verdict['name']}: {verdict['reason']}")
    print(table(rows(verdicts)))
    print(totals(verdicts))
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        write_json(options.json, verdicts)
    if options.record:
        write_json(RECORD, {"every": SAMPLE, "sample": passed(verdicts[::SAMPLE]), "all": passed(verdicts)})
    if options.update_readme:
        update_readme(README, verdicts)
    return int(any(v["verdict"] in ("wrong", "crashed") for v in verdicts))


def passed(verdicts: list[dict]) -> int:
    return sum(v["verdict"] == "passed" for v in verdicts)


def write_json(path: Path, data: object) -> None:
    """Writes `data` to a temporary file, which then takes the name."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
