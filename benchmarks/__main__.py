"""`make bench`: the models beside other runtimes in one run; prints tables and writes them to README.md."""

import dataclasses
import json
import sys
from collections.abc import Sequence

import click

from benchmarks import int8, latency, process, tables
from benchmarks.cases import CASES, prepare
from benchmarks.int8_cases import INT8_CASES, prepare_int8
from benchmarks.peak import measure_peak
from benchmarks.peak_kernels import units
from benchmarks.readme import README, marked, update
from edgert.cli.errors import run_safely
from edgert.errors import EdgertError


@click.command()
@click.option("--models", default="", help="Only these, by name and with commas.")
@click.option("--part", type=click.Choice(["all", "float", "int8"]), default="all", show_default=True)
@click.option("--threads", default="1,2", show_default=True, help="Numbers of threads, with commas.")
@click.option("--seconds", default=3.0, show_default=True, help="Time for each runtime, model and number of threads.")
@click.option("--no-compile", is_flag=True, help="Leave out compile times, which take longest.")
@click.option("--no-readme", is_flag=True, help="Print only.")
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Also write the figures to this file.")
def main(
    models: str, part: str, threads: str, seconds: float, no_compile: bool, no_readme: bool, as_json: str | None
) -> None:
    """Measure every model beside the peers."""
    known = [case.name for case in CASES]
    wanted = models.split(",") if models else known
    if strange := sorted(set(wanted) - set(known)):
        raise click.UsageError(f"--models {','.join(strange)}: there are {', '.join(known)}")
    counts = [int(count) for count in threads.split(",")]
    names = list(PARTS) if part == "all" else [part]
    if not no_readme and part != "all" and f"<!-- bench-{part}:begin -->" not in README.read_text(encoding="utf-8"):
        raise click.UsageError(f"README.md has no table of the part {part} yet: measure all once, or add --no-readme")
    figures: list = []
    reports = {}
    for name in names:
        report, found = PARTS[name](wanted, counts, seconds, no_compile)
        print(report)
        figures += found
        reports[f"bench-{name}"] = report
    if not no_readme and part == "all":
        update("bench", "\n".join(marked(marker, report) for marker, report in reports.items()))
    elif not no_readme:
        update(f"bench-{part}", reports[f"bench-{part}"])
    if as_json:
        with open(as_json, "w", encoding="utf-8") as file:
            json.dump([dataclasses.asdict(row) for row in figures], file, indent=1)


def measure_float(wanted: Sequence[str], counts: list[int], seconds: float, no_compile: bool) -> tuple[str, list]:
    """The float32 models: the report, and the figures in it."""
    rows, footprints, compiles = [], [], []
    for case in (case for case in CASES if case.name in wanted):
        say(f"{case.name}: compiling")
        prepare(case)
        for count in counts:
            say(f"{case.name}: {count} threads")
            # The peak beside each race, as clocks change with time and load: the better of before and after.
            before = measure_peak(count)
            row = latency.measure(case, count, seconds, before)
            share = row.share_of_peak * before / max(before, measure_peak(count))
            rows.append(dataclasses.replace(row, share_of_peak=share))
        say(f"{case.name}: memory and load")
        footprints.append(process.measure(case))
        if not no_compile:
            say(f"{case.name}: compile time")
            compiles.append(process.measure_compile(case))
    parts = [
        tables.headline(["float32"], ["onnxruntime", "openvino"]),
        tables.latency_table(rows),
        tables.footprint_table(footprints),
        tables.compile_table(compiles),
    ]
    return "\n".join(parts), [*rows, *footprints, *compiles]


def measure_int8(wanted: Sequence[str], counts: list[int], seconds: float, no_compile: bool) -> tuple[str, list]:
    """The quantized models: the report, and the figures in it. `no_compile` says nothing here."""
    rows, answers, refused = [], [], []
    bytewise = units()[1:]
    for case in (case for case in INT8_CASES if case.case.name in wanted):
        say(f"{case.name}: quantizing and compiling")
        try:
            samples = prepare_int8(case)
        except EdgertError as refusal:
            refused.append(f"{case.name}, {case.scheme}: {refusal}\n")
            say(refused[-1])
            continue
        for count in counts:
            say(f"{case.name}, int8: {count} threads")
            before = {unit: measure_peak(count, unit=unit) for unit in bytewise}
            row = int8.measure(case, count, seconds, samples[0])
            peaks = {unit: max(before[unit], measure_peak(count, unit=unit)) for unit in bytewise}
            rows.append(dataclasses.replace(row, peaks=peaks))
        say(f"{case.name}, int8: answers")
        answers.append(int8.compare(case, samples))
    parts = [
        tables.headline(bytewise, ["onnxruntime", "openvino", "ai-edge-litert"]),
        tables.int8_table(rows),
        tables.answers_table(answers),
        *refused,
        tables.INT8_NOTES.strip(),
    ]
    return "\n".join(parts), [*rows, *answers]


PARTS = {"float": measure_float, "int8": measure_int8}


def say(text: str) -> None:
    """Progress, for people who watch."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks")
