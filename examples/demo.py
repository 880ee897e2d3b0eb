"""`make demo`: fetch a real model, compile it, and let it tell what each file of this repository contains.

The model is Magika (file type from content). Everything printed is measured now, on this machine.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import edgert
from edgert.cli.errors import run_safely
from edgert.cli.progress import progress_bar
from edgert.interface.peers import open_peer
from edgert.interface.race import race
from edgert.interface.show import table
from edgert.units import format_bytes

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
SKIP = {"models", "build", "dist", "__pycache__"}  # beside hidden folders: what git does not keep either


def main() -> None:
    """Run the demo."""
    from compiler.zoo import pull
    from compiler.zoo.magika_features import MagikaConfig, decide, features, read_ends, small_label
    from edgert.interface.build import build

    with progress_bar("demo") as progress:
        onnx = pull("magika", MODELS, progress)
        artifact = MODELS / "magika.edge"
        built = build(str(onnx), str(artifact), shapes={"bytes": (1, 2048)}, progress=progress)
    start = time.perf_counter()
    model = edgert.load(artifact, threads=1)
    load_ms = 1e3 * (time.perf_counter() - start)

    config = MagikaConfig.read(onnx.with_suffix(".json"))
    rows: list[list[object]] = []
    asked: list[tuple[np.ndarray, np.ndarray]] = []
    for path in files(ROOT):
        ends = read_ends(path, config)
        row = features(*ends, config)
        if row is None:  # a few bytes: nothing to judge
            rows.append([path.relative_to(ROOT), small_label(ends[0]), "", ""])
            continue
        scores = model.run({"bytes": row})["target_label"]
        answer = decide(scores[0], config)
        guess = answer.model_label if answer.model_label != answer.label else ""
        rows.append([path.relative_to(ROOT), answer.label, f"{answer.score:.3f}", guess])
        asked.append((row, scores))
    table(["file", "content", "confidence", "best guess"], rows, left=2)

    inputs = {"bytes": asked[0][0]}
    start = time.perf_counter()
    peer = open_peer("onnxruntime", onnx, inputs, 1)
    peer_load_ms = 1e3 * (time.perf_counter() - start)
    times = race({"edgert": lambda: model.run(inputs), "onnxruntime": peer}, seconds=1.0)
    worst = max(largest_difference(onnx, asked))
    compiled = f"{built.steps} steps, {built.macs / 1e6:.1f} M MACs"
    print(f"Compiled in {built.seconds['total']:.1f} s for {built.target}: {compiled}.")
    table(
        ["one thread", "edgert", "ONNX Runtime"],
        [
            ["model file", format_bytes(built.file_bytes), format_bytes(onnx.stat().st_size)],
            ["working memory (arena)", format_bytes(built.arena_bytes), "not told"],
            ["load, integrity check included", f"{load_ms:.1f} ms", f"{peer_load_ms:.1f} ms"],
            ["one file, best of many", *(f"{1e3 * timing.best:.2f} ms" for timing in times.values())],
        ],
    )
    print(f"Largest difference from ONNX Runtime's scores over {len(asked)} files: {worst:.1e} (scores are 0 to 1).")


def files(root: Path) -> Iterator[Path]:
    """The files of the repository in order, without hidden folders and what is built or fetched."""
    for path in sorted(root.iterdir()):
        if path.name in SKIP or path.name.endswith(".egg-info") or path.is_symlink():
            continue
        if path.is_file() and path.suffix != ".so":
            yield path
        elif path.is_dir() and (not path.name.startswith(".") or path.name == ".ci"):
            yield from files(path)


def largest_difference(onnx: Path, asked: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[float]:
    """For each file asked about, the largest difference of any score from ONNX Runtime's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    for row, scores in asked:
        (want,) = session.run(["target_label"], {"bytes": row})
        yield float(np.abs(scores - want).max())


if __name__ == "__main__":
    run_safely(lambda *_, **__: main(), sys.argv[1:], "demo")
