"""The README's table of what models take on a graphics processor, exact counts: `python -m benchmarks.gpu`."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

import edgert
from benchmarks.cases import CASES, FOLDER, Case
from benchmarks.int8_cases import CALIBRATION
from benchmarks.readme import markdown, update
from benchmarks.samples import samples
from compiler.zoo import pull
from edgert.interface.beside import reference
from quant.quantize import quantize

KIB = 1024
QUANTIZED = {"mobilenet-v2": ("int8",), "minilm": ("int8", "int8-dynamic", "int4", "nf4")}
COLUMNS = (
    "model", "stored as", "weights KiB", "arena KiB", "kernels a run", "on the CPU", "99.9 % within", "all within",
)  # fmt: skip

ABOUT = "The last columns are how far answers are from ONNX Runtime's on the same file, as shares of an output's range:"


def rows(folder: Path) -> list[list[object]]:
    """One row a model and way to store it."""
    found: list[list[object]] = []
    for case in CASES:
        source = pull(case.name, FOLDER)
        found += [row(case, source, folder, *way) for way in (("float32", "opencl"), ("float16", "opencl-fp16"))]
        for scheme in QUANTIZED.get(case.name, ()):
            made = folder / "q.onnx"
            quantize(onnx.load(source), made, scheme, samples(case, CALIBRATION))
            integer = scheme.startswith("int8")
            label, target = (scheme, "opencl") if integer else (f"{scheme}, float16", "opencl-fp16")
            found.append(row(case, made, folder, label, target))
    return found


def row(case: Case, source: Path, folder: Path, label: str, target: str) -> list[object]:
    """Sizes, counts, and how far answers are from ONNX Runtime's on the same file, as shares of an output's range."""
    report = edgert.compile(source, folder / "m.edge", target=target, shapes=case.shapes, golden=False)
    made, session, far = report.manifest, reference(source), [0.0]
    (given,) = samples(case, CALIBRATION + 1)[CALIBRATION:]
    names = [output.name for output in session.get_outputs()]
    with edgert.load(folder / "m.edge") as model:
        got = model.run(given)
        for name, wanted in zip(names, session.run(names, given), strict=True):
            errors = np.abs(got[name].astype(np.float64) - wanted) / (np.ptp(wanted) or 1)
            far = max(far, [float(np.quantile(errors, 0.999)), float(errors.max())])
    steps, halves = len(made["steps"]), made.get("halves", {"float32": []})
    if kept := len(halves["float32"]):
        label += f" but for {kept} of {halves['values']}"
    sizes = [f"{made[key] / KIB:,.0f}" for key in ("weights_bytes", "arena_bytes")]
    return [case.name, label, *sizes, steps, steps - len(made["device"]["launches"]), *(f"{e:.0e}" for e in far)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        update("gpu", f"{ABOUT}\n\n{markdown(COLUMNS, rows(Path(name)))}")
