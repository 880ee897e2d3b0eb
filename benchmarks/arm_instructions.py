"""Instructions executed on 64-bit Arm beside ONNX Runtime's: `python -m benchmarks.arm_instructions` prints a table.

Counted by a plugin of QEMU's user mode (apt: qemu-user), without what starting, loading and the first run take. Both
get the same model and one thread; of int8 models ONNX Runtime also gets the form that it likes better (see
benchmarks/int8_cases.py), and the lower count stands. Instructions are no times: cores do several at once, and wait.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import edgert
from benchmarks.arm_onnxruntime import PROCESSORS, Processor, command
from benchmarks.cases import CASES, prepare
from benchmarks.int8_cases import INT8_CASES, prepare_int8
from benchmarks.readme import markdown, update
from benchmarks.samples import Sample, samples
from edgert import npy
from edgert.cli.errors import run_safely
from edgert.errors import EdgertError, UsageError
from edgert.interface.bench import total_macs
from edgert.native.build import zig_cc
from edgert.native.runner import runner

MODELS = ("mobilenet-v2", "minilm")
MORE = 2  # runs beyond the first, over which is averaged


@dataclass(frozen=True)
class Counts:
    """Instructions of one run; `apart`: the largest difference of the outputs as a share of their range."""

    model: str
    target: str
    macs: int
    ours: int
    theirs: int
    apart: float


@dataclass(frozen=True)
class Counter:
    """QEMU with the plugin. Raises UsageError where there is none that takes plugins."""

    folder: Path

    def __post_init__(self) -> None:
        if shutil.which("qemu-aarch64") is None:
            raise UsageError("qemu-aarch64, which takes plugins, is not installed (apt: qemu-user)")
        zig_cc(["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-o", str(self.folder / "count.so"),
                str(Path(__file__).with_name("qemu_count.c"))])  # fmt: skip

    @property
    def emulator(self) -> list[str]:
        """The words before `-cpu`."""
        return ["qemu-aarch64", "-plugin", f"{self.folder}/count.so,out={self.folder}/count"]

    def count(self, words: Sequence[str]) -> list[int]:
        """Instructions up to each mark and to the end of a program, whose words begin with `emulator`.

        Raises EdgertError where it fails.
        """
        (self.folder / "count").unlink(missing_ok=True)
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=1800)
        if done.returncode:
            raise EdgertError(f"under QEMU: {' '.join(done.stderr.split())[-300:] or done.returncode}")
        return [int(line) for line in (self.folder / "count").read_text().split()]


def count_edgert(
    counter: Counter, model: Path, target: str, shapes: dict[str, tuple[int, ...]], sample: Sample, folder: Path
) -> tuple[int, dict[str, np.ndarray], int]:
    """Instructions of a run of the native runner, its outputs, and the model's multiply-accumulates."""
    program, artifact = folder / "edgert-run", folder / "model.edge"
    program.write_bytes(runner("aarch64"))
    program.chmod(0o755)
    report = edgert.compile(model, artifact, target=target, shapes=shapes, golden=False)
    words = [*counter.emulator, "-cpu", PROCESSORS[target].cpu, str(program), str(artifact), "--threads", "1"]
    for name, array in sample.items():
        file = folder / f"{npy.file_stem(name)}.in.npy"
        file.write_bytes(npy.to_bytes(array))
        words += ["--input", f"{name}={file}"]
    words += ["--output", str(folder / "out"), "--time"]
    once, more = (counter.count([*words, runs])[-1] for runs in ("1", str(1 + MORE)))
    ports = [port["name"] for port in report.manifest["outputs"]]
    found = {name: np.load(folder / "out" / f"{npy.file_stem(name)}.npy") for name in ports}
    return (more - once) // MORE, found, total_macs(report.manifest)


def count_onnxruntime(
    counter: Counter, model: Path, processor: Processor, sample: Sample, folder: Path
) -> tuple[int, dict[str, np.ndarray]]:
    """Instructions of a run of ONNX Runtime, and its outputs."""
    given, out = folder / "in.npz", folder / "out.npz"
    np.savez(given, allow_pickle=False, **sample)
    words = command(counter.emulator, processor, folder, [str(model), str(given), str(out), str(MORE)])
    marks = counter.count(words)[:-1]
    with np.load(out) as found:
        return (marks[-1] - marks[0]) // MORE, dict(found)


def measure(name: str, form: str, target: str) -> Counts:
    """One row of the table."""
    case = next(case for case in CASES if case.name == name)
    forms = {case.scheme: case for case in INT8_CASES if case.case.name == name} if form != "float32" else {}
    prepare(case)
    models, sample = [case.onnx], samples(case, 1)[0]
    if form != "float32":
        sample = prepare_int8(forms[form])[0]
        models = [forms[form].onnx, forms[form].rival]
    with tempfile.TemporaryDirectory(prefix="edgert-count-") as made:
        folder = Path(made)
        counter = Counter(folder)
        ours, mine, macs = count_edgert(counter, models[0], target, case.shapes, sample, folder)
        theirs = [count_onnxruntime(counter, model, PROCESSORS[target], sample, folder) for model in models]
    reference = theirs[0][1]
    apart = max(float(np.abs(mine[key] - value).max() / np.ptp(value)) for key, value in reference.items())
    return Counts(f"{name}, {form}", target, macs, ours, min(count for count, _ in theirs), apart)


def table(rows: Sequence[Counts]) -> str:
    """Millions of instructions of one run."""
    heads = [
        "model",
        "processor",
        "edgert, M",
        "ONNX Runtime, M",
        "ratio",
        "edgert's a MAC",
        "outputs apart",
    ]
    cells = [
        [r.model, f"`{r.target}`", f"{r.ours / 1e6:.1f}", f"{r.theirs / 1e6:.1f}", f"{r.ours / r.theirs:.2f}",
         f"{r.ours / r.macs:.3f}", f"{r.apart:.0e}"]
        for r in rows
    ]  # fmt: skip
    return f"{time.strftime('%Y-%m-%d')}, millions of instructions a run:\n\n{markdown(heads, cells)}"


@click.command()
@click.option("--models", default=",".join(MODELS), show_default=True, help="By name, with commas.")
@click.option("--forms", default="float32,int8", show_default=True)
@click.option("--targets", default=",".join(PROCESSORS), show_default=True)
@click.option("--readme", is_flag=True, help="Write the table to README.md.")
def main(models: str, forms: str, targets: str, readme: bool) -> None:
    """Count instructions of both."""
    rows = []
    for name in models.split(","):
        for form in forms.split(","):
            for target in targets.split(","):
                rows.append(measure(name, form, target))
                print(rows[-1], file=sys.stderr, flush=True)
    report = table(rows)
    print(report)
    if readme:
        update("arm-instructions", report)


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.arm_instructions")
