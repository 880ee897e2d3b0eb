"""SmolLM2 through Python inside a budget: `edgert generate` with interpreter, numpy and tokenizer, under the kernel's
own limit."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import flash_runs
from benchmarks.flash_runs import MIB, UNLIMITED
from benchmarks.readme import markdown
from edgert.errors import EdgertError

BUDGETS, TOKENS, ROUNDS = (120, 96), 64, 2  # MiB
PROMPT = "The history of the sea"


@dataclass(frozen=True)
class ThroughPython:
    """Tokens a second and peaks of the whole group in bytes, page cache included; process: what Python took before any
    weight was read. same: whether the text is that without a limit. budget None: no limit."""

    budget: int | None
    rate: float
    peak: int
    process: int
    same: bool


def measure(edge: Path) -> list[ThroughPython]:
    """Without a limit, then at each budget: the best of a few runs. Raises EdgertError where one does not run."""
    free, found = _best(edge, UNLIMITED), []
    for budget in (None, *(b * MIB for b in BUDGETS)):
        rate, peak, text, process = free if budget is None else _best(edge, budget)
        found.append(ThroughPython(budget, rate, peak, process, text == free[2]))
    return found


def _best(edge: Path, budget: int) -> tuple[float, int, str, int]:
    return max(_run(edge, budget) for _ in range(ROUNDS))


def _run(edge: Path, budget: int) -> tuple[float, int, str, int]:
    words = ["generate", str(edge), "--prompt", PROMPT, "--max-tokens", str(TOKENS), "--threads", "1", "--json"]
    limit = [] if budget == UNLIMITED else ["--dram", str(budget)]
    done = flash_runs.cgroup_run([str(Path(sys.executable).with_name("edgert")), *words, *limit], budget, edge)
    if done.returncode:
        raise EdgertError(f"edgert generate in {budget // MIB} MiB: {'killed' if done.killed else done.stderr.strip()}")
    data = json.loads(done.stdout)
    plan = (data["streamed"] or {}).get("plan", {"parts": {}})
    turn = data["turns"][0]
    return turn["statistics"]["decode_rate"], done.peak or 0, turn["text"], plan["parts"].get("process", 0)


def text(rows: Sequence[ThroughPython]) -> str:
    """A table of the README."""
    cells = [
        [
            "no limit" if r.budget is None else f"{r.budget / MIB:.0f}", f"{r.rate:.3g}", f"{r.peak / MIB:.1f}",
            f"{r.process / MIB:.1f}" if r.process else "", "yes" if r.same else "no",
        ]
        for r in rows
    ]  # fmt: skip
    columns = ["memory MiB", "tokens/s", "peak MiB", "of that Python", "same text"]
    return f"smollm2 through Python (`edgert generate`), {TOKENS} tokens:\n\n{markdown(columns, cells)}"


def load(path: Path) -> list[ThroughPython]:
    """What was measured and kept, if it was."""
    return [ThroughPython(**row) for row in json.loads(path.read_text())] if path.is_file() else []
