"""`python -m benchmarks.experts`: what a mixture of experts reads a token, by how many stay and whether the next
layer's are foretold. The model is a small seeded one (tests/flashload/mixtures.py); counts are exact.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.readme import markdown, update
from edgert import runner
from edgert.artifact import Artifact, write
from edgert.cli.errors import run_safely
from flashload.plan import Plan
from tests.flashload.mixtures import BEST, EXPERT_BYTES, EXPERTS, LAYERS, WIDTH, mixture

TOKENS, KEPT = 200, (1, 2, 4, 8, 12)


@click.command()
@click.option("--readme/--no-readme", default=False, help="Write the table to README.md.")
def main(readme: bool) -> None:
    """Count reads of experts."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kept in KEPT:
            late, early = (_figures(path, kept) for path in (_blind(Path(folder)), mixture()))
            cells = [f"{kept} of {EXPERTS}"]
            for f in (late, early):
                there = 1 - f["chosen_missing"] / f["chosen_rows"]
                cells += [f"{f['chosen_bytes'] / TOKENS / 1024:.0f}", f"{100 * there:.0f} %"]
            rows.append(cells)
    columns = ["experts of a layer that stay", "KiB read a token", "in memory when asked for",
               "KiB read a token, read ahead", "in memory when asked for, read ahead"]  # fmt: skip
    text = f"{LAYERS} layers, {BEST} of {EXPERTS} experts a token, {EXPERT_BYTES // 1024} KiB each, random weights.\n\n"
    text += markdown(columns, rows)
    print(text)
    if readme:
        update("experts", text)


def _blind(folder: Path) -> Path:
    """The mixture without what its layers tell of the next one's experts."""
    known, path = Artifact.open(mixture()), folder / "moe.edge"
    manifest: dict[str, Any] = {k: copy.deepcopy(v) for k, v in known.manifest.items() if k != "members"}
    for table in manifest["stream"]["lookups"]:
        table.pop("ahead", None)
    write(path, manifest, known.code, known.weights)
    return path


def _figures(path: Path, kept: int) -> dict[str, int]:
    """edgert_stream_stats after tokens whose vectors change slowly, with room for so many experts of each layer."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=WIDTH)
    with runner.load(path, 1, dram="1G") as model:
        memory, stream = model.memory, model.artifact.spec.stream
        assert memory is not None
        assert stream is not None
        size = stream.streamed_bytes + (kept - 1) * LAYERS * (EXPERT_BYTES + 4)
        made = Plan(0, {"process": 0}, size, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "")
        memory._made = lambda: made  # type: ignore[method-assign]
        for _ in range(TOKENS):
            x = 0.8 * x + 0.6 * rng.normal(size=WIDTH)
            model.run({"x": x[None].astype(np.float32)})
        return memory.figures()


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.experts")
