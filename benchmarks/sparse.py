"""`python -m benchmarks.sparse`: what leaving out neurons costs SmolLM2 in perplexity and saves of reading, by how
many rows of the down projections have room in memory and whether near ones are read at once. Counts are exact.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.cases import FOLDER
from benchmarks.flash import prepare
from benchmarks.llm_texts import texts
from benchmarks.readme import markdown, update
from edgert.cli.errors import run_safely
from edgert.llm.perplexity import measure, windows
from edgert.llm.text_model import TextModel, open_text_model
from flashload.plan import Plan

WINDOW, WARM, COUNTED = 512, 40, 80
KINDS = ((0.35, 0.5),)  # share left out, share that always counts
KEPT = (0.0, 0.5, 0.6)  # of all rows
GAPS = (0, 64 << 10)
READERS, BLOCK, RING = 4, 256 << 10, 1 << 20


@click.command()
@click.option("--count", default=2, show_default=True, help="Windows of 512 tokens of each text.")
@click.option("--readme/--no-readme", default=False, help="Write the tables to README.md.")
def main(count: int, readme: bool) -> None:
    """Measure models that leave neurons out."""
    source, dense, _ = prepare("smollm2", ("edge",))
    costs, reads = [], []
    base = _perplexities(dense, count)
    costs.append(["all", *(f"{value:.2f}" for value in base.values())])
    for share, hot in KINDS:
        name, path = f"{share:g} left out, {hot:g} always used", _compiled(source, share, hot)
        found = _perplexities(path, count)
        costs.append([name, *(f"{v:.2f} ({100 * (v / base[text] - 1):+.1f} %)" for text, v in found.items())])
        print(costs[-1], flush=True)
        for kept in KEPT:
            for gap in GAPS:
                reads.append([name, f"{100 * kept:.0f} %", f"{gap >> 10} KiB", *_reads(path, dense, kept, gap)])
                print(reads[-1], flush=True)
    columns = ["neurons", "rows that stay", "read over gaps of", "MiB read a token", "reads", "ms",
               "MiB read by the dense model in as much memory"]  # fmt: skip
    text = markdown(["neurons", *base], costs) + "\n" + markdown(columns, reads)
    print(text)
    if readme:
        update("sparse", text)


def _compiled(source: Path, share: float, hot: float) -> Path:
    """An artifact with thresholds from parts of both texts that are not measured on."""
    from edgert.interface.build import build
    from edgert.sparse import Sparsity

    out = FOLDER / f"smollm2.sparse-{share:g}-{hot:g}.edge"
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.txt"
        cuts = [range(180_000 + 8000 * i, 188_000 + 8000 * i) for i in range(3)]
        seen.write_text("".join(text[c.start : c.stop] for c in cuts for text in texts().values()), encoding="utf-8")
        build(str(source), str(out), context=WINDOW, golden=False, sparsity=Sparsity(share, hot, seen))
    return out


def _perplexities(path: Path, count: int) -> dict[str, float]:
    with open_text_model(path) as opened:
        engine, found = opened.engine(), {}
        for name, text in texts().items():
            for score in measure(engine, _windows(opened, text, count)):
                found[name] = score.perplexity
    return found


def _windows(opened: TextModel, text: str, count: int) -> Sequence[Sequence[int]]:
    tokenizer = opened.tokenizer
    bos = tokenizer.bos if tokenizer.config["add_bos"] else None
    return windows(tokenizer.encode(text[: count * 8192], bos=True), WINDOW, bos)[:count]


def _reads(path: Path, dense: Path, kept: float, gap: int) -> list[str]:
    """MiB and reads and milliseconds a token, one after the other, once every row was seen; and what the dense model
    reads of its weights in the memory that this took."""
    with open_text_model(path, 1, dram="4G") as opened:
        memory, stream = opened.model.memory, opened.model.artifact.spec.stream
        assert memory is not None
        assert stream is not None
        rows = sum(t.extent * (t.used + 4) for t in stream.lookups if t.chosen)
        size = stream.streamed_bytes + int(kept * rows)
        ring = stream.least_ring + RING
        made = Plan(0, {"process": 0}, size, ring, BLOCK, READERS, 1, 1, 1, 1, "", gap)
        memory._made = lambda: made  # type: ignore[method-assign]
        taken = stream.resident_bytes + size + stream.table_bytes
        engine = opened.engine(WINDOW)
        ids = opened.tokenizer.encode(texts()["Lee news"][:4000])
        for token in ids[:WARM]:
            engine.decode(token)
        before, start = memory.figures(), time.perf_counter()
        for token in ids[WARM : WARM + COUNTED]:
            engine.decode(token)
        seconds, after = time.perf_counter() - start, memory.figures()
    with open_text_model(dense, 1) as opened:
        whole = opened.model.artifact.spec.stream
        assert whole is not None
        left = max(0, whole.resident_bytes + whole.streamed_bytes + whole.table_bytes - taken)
    each = np.array([after[key] - before[key] for key in ("chosen_bytes", "chosen_reads")]) / COUNTED
    return [f"{each[0] / 2**20:.2f}", f"{each[1]:,.0f}", f"{1e3 * seconds / COUNTED:.1f}", f"{left / 2**20:.2f}"]


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.sparse")
