"""Print what a command found: text for people, or one JSON object."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgert.units import format_bytes

if TYPE_CHECKING:  # importing a command's results would import what all of them need
    from edgert.interface.bench import BenchResult
    from edgert.interface.devices import Device
    from edgert.interface.run import RunResult
    from edgert.interface.verify import VerifyResult


def print_json(value: Any) -> None:
    """`value` (plain data, dataclasses within) as one JSON object on stdout; NaN and infinities become null."""
    click.echo(json.dumps(_plain(value), ensure_ascii=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> None:
    """Print a table; the first `left` columns lean left, the others right."""
    from rich import box  # here, as it costs memory and time that plain text and JSON need not pay
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*[str(cell) for cell in row])
    # Where nobody's terminal sets the width, lines may be long: a program can still split them.
    console = Console(markup=False, highlight=False)
    Console(markup=False, highlight=False, width=None if console.is_terminal else 160).print(made)


def show(result: Any, as_json: bool, text: Callable[[Any], None]) -> None:
    """Print `result` as JSON or through `text`."""
    if as_json:
        print_json(result)
    else:
        text(result)


def run_text(result: "RunResult") -> None:
    """Outputs with range and largest values; with --profile also the steps."""
    for output in result.outputs:
        shape = "x".join(map(str, output.shape)) or "scalar"
        where = f" -> {output.file}" if output.file else ""
        click.echo(f"{output.name}  {output.dtype} {shape}{where}")
        if output.min is not None:
            top = ", ".join(f"[{top.label or top.index}] {top.value:.6g}" for top in output.top)
            click.echo(f"  from {output.min:.6g} to {output.max:.6g}; largest {top}")
    if result.cost is not None:
        from edgert.interface.counted import counted_text

        counted_text(result.cost)
        return
    if result.profile is not None:
        profile_text(result.profile)
    times = f", {result.runs} times" if result.runs > 1 else ""
    milliseconds = f"loaded in {1e3 * result.load_seconds:.1f} ms, ran in {1e3 * result.run_seconds:.2f} ms{times}"
    if math.isnan(result.run_seconds):
        milliseconds = "ran on an emulator, whose times are not the device's"
    click.echo(f"{result.name}: {milliseconds}, arena {format_bytes(result.arena_bytes)}")


def profile_text(steps: Sequence[dict[str, Any]]) -> None:
    """The steps, slowest first, with their share of the time and rate of multiply-accumulates."""
    total = sum(step["ns"] for step in steps) or 1
    rows = []
    for step in sorted(steps, key=lambda step: -step["ns"]):
        rate = f"{2 * step['macs'] / step['ns']:.1f}" if step.get("macs") and step["ns"] else ""
        share = f"{100 * step['ns'] / total:.1f} %"
        rows.append([step["name"], step.get("op", ""), step.get("kernel", ""), f"{step['ns'] / 1e3:.1f}", share, rate])
    table(["step", "operator", "kernel", "us", "share", "GFLOP/s"], rows, left=3)


def verify_text(result: "VerifyResult") -> None:
    """One line per output and the verdict."""
    for output in result.outputs:
        verdict = "right" if output.passed else "WRONG"
        words = output.words or f"error {output.error:.3g}, {output.relative:.3g} of the {result.of}"
        click.echo(f"{verdict}  {output.name}: {words}")
    verdict = "right" if result.passed else "failed"
    click.echo(f"{result.name} on {result.device}: {verdict} (tolerance {result.tolerance:.3g} of the {result.of})")


def bench_text(result: "BenchResult") -> None:
    """One row per runtime."""
    rows = []
    for timed in result.runtimes:
        rate = f"{2 * result.macs / timed.best_ms / 1e6:.1f}" if result.macs else ""
        rows.append(
            [timed.name, f"{timed.best_ms:.3f}", f"{timed.median_ms:.3f}", timed.runs, f"{timed.ratio:.2f}", rate]
        )
    click.echo(f"{result.name}, threads: {result.threads}")
    table(["runtime", "best ms", "median ms", "runs", "best / edgert's", "GFLOP/s"], rows)


def devices_text(found: "dict[str, Sequence[Device]]") -> None:
    """One row per device."""
    rows = [[d.uri, d.missing or d.name, d.cores, format_bytes(d.memory) if d.memory else "unknown"]
            for d in found["devices"]]  # fmt: skip
    table(["device", "processor, or what is missing", "cores", "free memory"], rows, left=2)
