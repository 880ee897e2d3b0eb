"""`python -m benchmarks.coding`: what coding without loss saves of real weights, how fast it is undone; beside zstd.

Segments are taken from artifacts as they would be read; bfloat16 and float16 are MiniLM's float32 weights rounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.cases import FOLDER
from benchmarks.flash import prepare
from benchmarks.readme import markdown, update
from edgert.artifact import Artifact
from edgert.cli.errors import run_safely
from edgert.coding import decode, decode_speed
from flashload.coding import planes
from flashload.coding.worth import pays
from flashload.named_profiles import named, usual

SAMPLES = 8  # segments of a model, spread over it
WORTH = ("sd-uhs-1", "emmc-5.1", "ufs-3.1")


@click.command()
@click.option("--models", default="smollm2,gemma3,minilm", show_default=True, help="Only these, with commas.")
@click.option("--readme/--no-readme", default=False, help="Write the table to README.md.")
def main(models: str, readme: bool) -> None:
    """Measure coding."""
    rows: list[list[object]] = []
    for name in models.split(","):
        _, edge, _ = prepare(name, ("edge",))
        segments = _segments(edge)
        rows.append(row(f"{name}, as it is", segments))
        if name == "minilm":
            values = [s.view(np.float32) for s in segments]
            rows.append(
                row("minilm in bfloat16", [(v.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) for v in values])
            )
            rows.append(row("minilm in float16", [v.astype(np.float16).view(np.uint8) for v in values]))
    columns = ["weights", "bytes", "of plain", "decoded GB/s", "zstd -3", "decoded GB/s", "coded for"]
    text = markdown(columns, rows)
    print(text)
    if readme:
        update("coding", text)


def row(name: str, segments: list[np.ndarray]) -> list[object]:
    """A line of the table: sizes and the best of a few decodings, on one core."""
    import zstandard

    speed, total = decode_speed(), sum(map(len, segments))
    widths = [planes.width_of(s) for s in segments]
    coded = [planes.encode(s, width) for s, (width, _) in zip(segments, widths, strict=True)]
    for data, small in zip(segments, coded, strict=True):
        np.testing.assert_array_equal(decode(small, len(data)), data)
    seconds = sum(_best(lambda c=c, s=s: decode(c, len(s))) for c, s in zip(coded, segments, strict=True))  # type: ignore[misc]
    packed = [zstandard.compress(s.tobytes(), 3) for s in segments]
    unpack = zstandard.ZstdDecompressor().decompress
    theirs = sum(_best(lambda p=p: unpack(p)) for p in packed)  # type: ignore[misc]
    devices = [(n, named(n)) for n in WORTH] + [("here", usual())]
    for_ = [n for n, flash in devices if sum(pays(bits, speed, flash) for _, bits in widths) > len(segments) / 2]
    share, other = sum(map(len, coded)) / total, sum(map(len, packed)) / total
    return [name, f"{total:,}", f"{100 * share:.1f} %", f"{total / seconds / 1e9:.2f}", f"{100 * other:.1f} %",
            f"{total / theirs / 1e9:.2f}", ", ".join(for_) or "none"]  # fmt: skip


def _segments(edge: Path) -> list[np.ndarray]:
    artifact = Artifact.open(edge)
    assert artifact.spec.stream is not None
    streamed = [s for s in artifact.spec.stream.segments if not s.resident]
    chosen = streamed[:: max(1, len(streamed) // SAMPLES)]
    return [np.array(artifact.weights[s.offset : s.offset + s.size]) for s in chosen]


def _best(call: Callable[[], object]) -> float:
    found = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    run_safely(main.main, None, "benchmarks.coding")
