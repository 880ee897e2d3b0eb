"""The README's table of what models take on a graphics processor, exact counts: `python -m benchmarks.gpu`."""

import tempfile
from pathlib import Path

import edgert
from benchmarks.cases import CASES, FOLDER
from benchmarks.readme import markdown, update
from compiler.zoo import pull

KIB = 1024
QUANTIZED = {"minilm": ("int4", "nf4")}  # schemes without samples, for models of matrix products
COLUMNS = ("model", "stored as", "weights KiB", "arena KiB", "kernels a run", "of them on the CPU")


def rows(folder: Path) -> list[list[object]]:
    """One row a model and way to store it."""
    found: list[list[object]] = []
    for case in CASES:
        source = pull(case.name, FOLDER)
        ways = [("float32", "opencl", None), ("float16", "opencl-fp16", None)]
        ways += [(f"{scheme}, float16", "opencl-fp16", scheme) for scheme in QUANTIZED.get(case.name, ())]
        for label, target, scheme in ways:
            made = edgert.compile(
                source, folder / "m.edge", target=target, shapes=case.shapes, quant=scheme, golden=False
            ).manifest
            steps = len(made["steps"])
            sizes = [f"{made[key] / KIB:,.0f}" for key in ("weights_bytes", "arena_bytes")]
            found.append([case.name, label, *sizes, steps, steps - len(made["device"]["launches"])])
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        update("gpu", markdown(COLUMNS, rows(Path(name))))
