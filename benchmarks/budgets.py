"""The README's table of budgets: the arena with nothing split, the least there is, and what a budget costs.

`python -m benchmarks.budgets`; byte counts and multiply-accumulates are exact, times the best of many on this machine.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import edgert
from benchmarks.cases import CASES, FOLDER
from benchmarks.readme import markdown, update
from benchmarks.samples import samples
from compiler.frontend import load
from compiler.pipeline import plan_graph
from compiler.program import Program
from compiler.zoo import pull
from edgert.errors import DoesNotFit, EdgertError
from edgert.interface.race import race
from quant.quantize import quantize
from targets import get_target

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"
KIB = 1024
SAMPLES = 8  # that calibrate


@dataclass(frozen=True)
class Network:
    """A model to fit into `budget` bytes. make: the file, into the folder it is given; None where there is none."""

    name: str
    budget: int
    make: Callable[[Path], Path | None]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def given(path: Path) -> Callable[[Path], Path | None]:
    """A model that lies beside the repository, or does not."""
    return lambda folder: path if path.is_file() else None


def vision_transformer(folder: Path) -> Path:
    """DeiT-Tiny's shape with seeded weights, int8."""
    from tests.split.test_vit import pictures
    from tests.split.vit import vit

    quantize(vit(folder / "vit.onnx"), folder / "vit.int8.onnx", "int8", pictures(224, SAMPLES))
    return folder / "vit.int8.onnx"


def encoder(folder: Path) -> Path:
    """MiniLM in int8, calibrated with this repository's documents."""
    source = MINILM.onnx if MINILM.onnx.is_file() else pull(MINILM.name, FOLDER)
    quantize(source, folder / "minilm.int8.onnx", "int8", samples(MINILM, SAMPLES))
    return folder / "minilm.int8.onnx"


MINILM = next(case for case in CASES if case.name == "minilm")
NETWORKS = [
    Network("person detection (VWW), 96 x 96", 32 * KIB, given(SHARED / "vww" / "vww_96_qdq_int8.onnx")),
    Network("keywords (KWS), 49 x 10", 14 * KIB, given(SHARED / "kws" / "kws_qdq_int8.onnx")),
    Network("ViT of DeiT-Tiny's shape, 224 x 224", 320 * KIB, vision_transformer),
    Network("MiniLM, 128 tokens", 384 * KIB, encoder, MINILM.shapes),
]


def planned(path: Path, shapes: Mapping[str, tuple[int, ...]], ram: int | None) -> tuple[int, int]:
    """Bytes of arena and multiply-accumulates of a run, without making code. Raises DoesNotFit."""
    graph, facts = load(path, dict(shapes), {})
    program, placement = plan_graph(graph, facts, get_target(), ram=ram)
    return placement.arena_bytes, macs(program)


def macs(program: Program) -> int:
    """Multiply-accumulates of a run."""
    return sum(step.macs for step in program.steps)


def least(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The smallest budget that is not refused, as the refusal of a single byte names it."""
    try:
        return planned(path, shapes, 1)[0]
    except DoesNotFit as refusal:
        found = re.search(r"need (\d+) bytes", str(refusal))
        if found is None:
            raise
        return int(found[1])


def milliseconds(
    path: Path, shapes: Mapping[str, tuple[int, ...]], budget: int, folder: Path
) -> tuple[float, float]:  # fmt: skip
    """Best of many runs on one thread: without the budget, and with it. Raises EdgertError where answers differ."""
    whole, split = folder / "whole.edge", folder / "split.edge"
    edgert.compile(path, whole, shapes=dict(shapes))
    edgert.compile(path, split, shapes=dict(shapes), ram=budget)
    with edgert.load(whole, threads=1) as one, edgert.load(split, threads=1) as other:
        inputs = one.artifact.golden()[0]
        wanted, got = one.run(inputs), other.run(inputs)
        if not all(np.array_equal(wanted[name], got[name], equal_nan=True) for name in wanted):
            raise EdgertError(f"{path.name}: other answers within {budget} bytes than without a budget")
        times = race({"whole": lambda: one.run(inputs), "split": lambda: other.run(inputs)}, seconds=3.0)
    return 1e3 * times["whole"].best, 1e3 * times["split"].best


def row(network: Network, path: Path, folder: Path) -> list[object]:
    """One line of the table; a budget that is refused has no arena and no time."""
    whole, work = planned(path, network.shapes, None)
    floor = least(path, network.shapes)

    def more(macs: int) -> str:
        return f"{100 * (macs - work) / work:.1f} %"

    cells = [network.name, f"{whole:,}", f"{floor:,}", more(planned(path, network.shapes, floor)[1])]
    name = f"{network.budget // KIB}K"
    try:
        arena, macs_within = planned(path, network.shapes, network.budget)
    except DoesNotFit:
        return [*cells, name, "refused", "", "", ""]
    before, after = milliseconds(path, network.shapes, network.budget, folder)
    return [*cells, name, f"{arena:,}", more(macs_within), f"{before:.2f}", f"{after:.2f}"]


def rows() -> Iterator[list[object]]:
    """All lines; models that are not there are left out, and said to be."""
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            path = network.make(Path(folder))
            if path is None:
                print(f"{network.name}: not there, left out", file=sys.stderr)
                continue
            yield row(network, path, Path(folder))


def main() -> None:
    """Measure, and write the table."""
    columns = ["int8 model", "arena, nothing split", "least", "work added", "`--ram`", "arena", "work added"]
    update("budgets", markdown([*columns, "ms, nothing split", "ms, split"], list(rows())))


if __name__ == "__main__":
    main()
