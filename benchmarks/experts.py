"""`python -m benchmarks.experts`: what a mixture of experts reads a token, by how many stay and whether the next
layer's are foretold. The model is a small seeded one (tests/flashload/mixtures.py); counts are exact.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.readme import markdown, update
from edgert.cli.errors import run_safely
from tests.flashload.mixtures import BEST, EXPERT_BYTES, EXPERTS, LAYERS, blind, mixture, opened, walk

TOKENS, KEPT = 200, (1, 2, 4, 8, 12)


@click.command()
@click.option("--readme/--no-readme", default=False, help="Write the table to README.md.")
def main(readme: bool) -> None:
    """Count reads of experts."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        without = blind(Path(folder))
        for kept in KEPT:
            late, early = (_figures(path, kept) for path in (without, mixture()))
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


def _figures(path: Path, kept: int) -> dict[str, int]:
    """edgert_stream_stats after some tokens, with room for so many experts of each layer."""
    with opened(kept, path) as model:
        for x in walk(TOKENS + 1)[1:]:
            model.run({"x": x[None]})
        assert model.memory is not None
        return model.memory.figures()


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.experts")
