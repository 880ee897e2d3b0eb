"""The README's table of arenas: as the graph comes and placed greedily, as planned, and what no plan can go below.

`python -m benchmarks.memory`; no model is run. ONNX's own nine topologies and the models of `edgert pull`.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx

from benchmarks.cases import CASES, FOLDER
from benchmarks.readme import markdown, update
from compiler.debug import Dump
from compiler.frontend import load
from compiler.memory.by_size import by_size
from compiler.memory.place import arena_bytes
from compiler.passes import run_passes
from compiler.pipeline import arranged, lower
from compiler.placement import requests_of
from compiler.program import Program
from compiler.zoo import pull
from targets import get_target

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def models() -> Iterator[tuple[str, Path, dict[str, tuple[int, ...]]]]:
    """Name, file and fixed shapes of each."""
    for case in CASES:
        yield case.name, case.onnx if case.onnx.is_file() else pull(case.name, FOLDER), case.shapes
    for path in sorted(LIGHT.glob("*.onnx")):
        yield path.stem.removeprefix("light_"), path, {}


def largest_operator(program: Program) -> int:
    """Bytes in the arena that the hungriest step reads and writes."""
    return max(sum(b.bytes for b in step.buffers if b.space == "arena") for step in program.steps)


def row(name: str, path: Path, shapes: dict[str, tuple[int, ...]]) -> list[object]:
    """One line of the table."""
    target = get_target()
    graph, facts = load(path, shapes, {})
    graph, facts = run_passes(graph, facts, target, Dump(None))
    program = lower(graph, facts, target)
    requests = requests_of(program)[1]
    greedy, bound = arena_bytes(requests, by_size(requests)), largest_operator(program)
    placed = arranged(program)
    proven = (
        "yes" if placed.arena_bytes == placed.lower_bound else f"within {placed.arena_bytes - placed.lower_bound:,}"
    )
    return [name, f"{greedy:,}", f"{placed.arena_bytes:,}", f"{placed.arena_bytes / greedy:.2f}", f"{bound:,}", proven]


if __name__ == "__main__":
    columns = ["model", "greedy by size", "planned", "ratio", "largest operator", "least for its order"]
    update("memory", markdown(columns, [row(*model) for model in models()]))
