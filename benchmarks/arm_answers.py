"""Answers on emulated Arm beside this machine's: `python -m benchmarks.arm_answers` prints a table, --readme writes it.

The six models, float32 and int8, compiled for each Arm target and run by the native runner under QEMU's user mode (apt:
qemu-user-static). Floats differ by the order of sums and by fused multiply-adds; of int8 models every code inside is
compared, and those count that were computed from equal ones.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import edgert
from benchmarks.cases import CASES, Case
from benchmarks.readme import markdown, update
from benchmarks.samples import Sample, samples
from edgert.cli.errors import run_safely
from edgert.interface.agreement import Agreement, agree, tap
from edgert.interface.emulated import EmulatedModel

CALIBRATION = 8
# of the output's range: some fifty layers, each with float32's 6e-8 an operation in sums of up to a thousand terms
FLOAT_BAR = 1e-4
STEPS_BAR = 1  # codes computed from equal ones: a tie that falls the other way
# a target, and the processor of QEMU's that has its features and no more than those of its kind
PLACES = {
    "aarch64": "qemu-user://aarch64?cpu=cortex-a53",
    "cortex-a53": "qemu-user://aarch64?cpu=cortex-a53",
    "cortex-a76": "qemu-user://aarch64?cpu=cortex-a76",
    "cortex-x2": "qemu-user://aarch64?cpu=max",
    "armv7-neon": "qemu-user://armv7?cpu=max",
}
FORMS = ("float32", "int8")


@dataclass(frozen=True)
class Difference:
    """How a target's answers differ from this machine's; `agreement` as edgert.interface.agreement has it."""

    model: str
    form: str
    target: str
    agreement: Agreement

    @property
    def within(self) -> bool:
        """Whether the difference is that of rounding alone."""
        found = self.agreement
        return found.relative <= FLOAT_BAR if self.form == "float32" else found.codes > 0 and found.steps <= STEPS_BAR

    def __str__(self) -> str:
        found = self.agreement
        outputs = f"{found.relative:.0e}" if found.relative else "equal"
        if self.form == "float32":
            return outputs
        steps = f"{found.ties} of {found.codes:,} codes by {found.steps}" if found.ties else "codes equal"
        return f"{steps}; {outputs}"


def compare(case: Case, form: str, target: str, folder: Path) -> Difference:
    """Compile the model in that form for this machine and for `target`, and run both on a real sample."""
    return Difference(case.name, form, target, _compare(*prepared(case, form, folder), case, target))


def prepared(case: Case, form: str, folder: Path) -> tuple[Path, Sample]:
    """The ONNX file, made in `folder` where it is not there, and a sample that it was not calibrated with."""
    from compiler.zoo import pull
    from quant.quantize import quantize

    if not case.onnx.is_file():
        pull(case.name, case.onnx.parent)
    found = samples(case, CALIBRATION + 1)
    if form == "float32":
        return case.onnx, found[-1]
    path = folder / f"{case.name}.int8.onnx"
    if not path.is_file():
        quantize(case.onnx, path, form, found[:CALIBRATION])
    return path, found[-1]


def _compare(model: Path, sample: Sample, case: Case, target: str) -> Agreement:
    with tempfile.TemporaryDirectory(prefix="edgert-arm-") as name:
        folder = Path(name)
        outputs = agree([_both(model, sample, case, target, folder)], {})
        tapped = folder / "tapped.onnx"
        sources = tap(model, tapped)
        if not sources:
            return outputs
        codes = agree([_both(tapped, sample, case, target, folder)], sources)
    found = outputs.__dict__
    return Agreement(**{**codes.__dict__, "largest": found["largest"], "relative": found["relative"]})


def _both(
    model: Path, sample: Sample, case: Case, target: str, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs of `target` under QEMU, and this machine's."""
    here, there = folder / "here.edge", folder / "there.edge"
    edgert.compile(model, here, shapes=case.shapes, golden=False)
    edgert.compile(model, there, target=target, shapes=case.shapes, golden=False)
    with edgert.load(here, threads=1) as ours, EmulatedModel(str(there), PLACES[target]) as theirs:
        return theirs.run(sample), ours.run(sample)


def table(found: list[Difference], targets: list[str]) -> str:
    """A row for each model and form, a column for each target."""
    by_place = {(d.model, d.form, d.target): d for d in found}
    rows = [
        [f"{model}, {form}", *(str(by_place[model, form, target]) for target in targets)]
        for model, form in dict.fromkeys((d.model, d.form) for d in found)
    ]
    heads = [f"`{target}` ({PLACES[target].partition('=')[2]})" for target in targets]
    return f"{time.strftime('%Y-%m-%d')}:\n\n" + markdown(["model", *heads], rows)


@click.command()
@click.option(
    "--models", default=",".join(case.name for case in CASES), show_default=True, help="By name, with commas."
)
@click.option("--forms", default=",".join(FORMS), show_default=True)
@click.option("--targets", default=",".join(PLACES), show_default=True)
@click.option("--readme", is_flag=True, help="Write the table to README.md.")
def main(models: str, forms: str, targets: str, readme: bool) -> None:
    """Compare the answers; exit code 1 where one differs by more than rounding explains."""
    found: list[Difference] = []
    with tempfile.TemporaryDirectory(prefix="edgert-arm-") as folder:
        for case in (case for case in CASES if case.name in models.split(",")):
            for form in forms.split(","):
                for target in targets.split(","):
                    found.append(compare(case, form, target, Path(folder)))
                    print(f"{case.name}, {form}, {target}: {found[-1]}", file=sys.stderr, flush=True)
    report = table(found, targets.split(","))
    print(report)
    if readme:
        update("arm-answers", report)
    sys.exit(not all(difference.within for difference in found))


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.arm_answers")
