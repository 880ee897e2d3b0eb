"""`make bench`: the models beside ONNX Runtime and OpenVINO in one run; prints tables and writes them to README.md."""

import dataclasses
import datetime
import json
import sys
from importlib.metadata import version

import click

from benchmarks import latency, process
from benchmarks.cases import CASES, prepare
from benchmarks.peak import measure_peak
from benchmarks.readme import markdown, update
from edgert.cli.errors import run_safely
from edgert.interface.devices import cpu_name
from edgert.units import format_bytes


@click.command()
@click.option("--models", default="", help="Only these, by name and with commas.")
@click.option("--threads", default="1,2", show_default=True, help="Numbers of threads, with commas.")
@click.option("--seconds", default=3.0, show_default=True, help="Time for each runtime, model and number of threads.")
@click.option("--no-compile", is_flag=True, help="Leave out compile times, which take longest.")
@click.option("--no-readme", is_flag=True, help="Print only.")
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Also write the figures to this file.")
def main(models: str, threads: str, seconds: float, no_compile: bool, no_readme: bool, as_json: str | None) -> None:
    """Measure every model beside the peers."""
    cases = [case for case in CASES if not models or case.name in models.split(",")]
    if not cases:
        raise click.UsageError(f"--models {models}: there are {', '.join(case.name for case in CASES)}")
    counts = [int(count) for count in threads.split(",")]
    rows, footprints, compiles = [], [], []
    for case in cases:
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
    report = "\n".join([headline(), latency_table(rows), footprint_table(footprints), compile_table(compiles)])
    print(report)
    if as_json:
        figures: list[latency.Latency | process.Footprint | process.CompileTime] = [*rows, *footprints, *compiles]
        with open(as_json, "w", encoding="utf-8") as file:
            json.dump([dataclasses.asdict(row) for row in figures], file, indent=1)
    if not no_readme:
        update("bench", report)


def say(text: str) -> None:
    """Progress, for people who watch."""
    print(text, file=sys.stderr, flush=True)


def headline() -> str:
    """When, on what, against what."""
    peak = ", ".join(f"{count} threads {measure_peak(count):.0f} GFLOP/s" for count in (1, 2))
    peers = f"onnxruntime {version('onnxruntime')}, openvino {version('openvino')}"
    today = datetime.date.today().isoformat()
    return (
        f"Measured {today} on {cpu_name()} (float32 peak, measured: {peak}), against {peers}. Best of many runs, in "
        "turns, in one process; a ratio above 1 means that edgert is faster.\n"
    )


def latency_table(rows: list[latency.Latency]) -> str:
    """Milliseconds and ratios."""

    def cell(row: latency.Latency, peer: str) -> list[str]:
        took = row.peers_ms[peer]
        return ["refused", ""] if took is None else [f"{took:.2f}", f"{took / row.edgert_ms:.2f}"]

    columns = ["model", "threads", "edgert ms", "ONNX Runtime ms", "ratio", "OpenVINO ms", "ratio", "of peak", "error"]
    cells = [
        [
            row.model,
            row.threads,
            f"{row.edgert_ms:.2f}",
            *cell(row, "onnxruntime"),
            *cell(row, "openvino"),
            f"{100 * row.share_of_peak:.0f} %",
            f"{row.error:.0e}",
        ]
        for row in rows
    ]
    return markdown(columns, cells)


def footprint_table(rows: list[process.Footprint]) -> str:
    """Memory and load times."""
    columns = ["model", "arena", "weights", "process peak", "ONNX Runtime", "ratio", "load ms", "ONNX Runtime ms"]
    cells = []
    for row in rows:
        sizes = [row.arena_bytes, row.weights_bytes, row.edgert_bytes, row.ort_bytes]
        ratio, loads = (
            f"{row.edgert_bytes / row.ort_bytes:.2f}",
            [f"{row.edgert_load_ms:.1f}", f"{row.ort_load_ms:.1f}"],
        )
        cells.append([row.model, *map(format_bytes, sizes), ratio, *loads])
    return markdown(columns, cells)


def compile_table(rows: list[process.CompileTime]) -> str:
    """Compile times."""
    cells = [[row.model, f"{row.cold:.1f}", f"{row.warm:.1f}"] for row in rows]
    return markdown(["model", "cold compile s", "warm s"], cells) if rows else ""


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks")
