"""Compile a model, and tell what came of it."""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.interface.bench import total_macs
from edgert.placing import Placing
from edgert.sparse import Sparsity
from edgert.units import format_bytes


@dataclass(frozen=True)
class BuildReport:
    """What `edgert compile` made: sizes in bytes, seconds per phase, kernels, MACs of one run, remarks."""

    path: str
    name: str
    target: str
    file_bytes: int
    arena_bytes: int
    arena_lower_bound: int | None
    weights_bytes: int
    steps: int
    macs: int
    seconds: dict[str, float]
    notes: list[str]


def build(
    model: str,
    output: str,
    target: str = "host",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    ram: int | None = None,
    tune: int = 0,
    emit: str = "edge",
    golden: bool = True,
    debug_dump: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    quant: str | None = None,
    calibrate: str | None = None,
    context: int | None = None,
    dram: int | None = None,
    placing: Placing | None = None,
    code: str = "none",
    io: str = "float",
    sparsity: Sparsity | None = None,
    kv: str | None = None,
) -> BuildReport:
    """Compile the file `model` into `output`; see `edgert.build.compile` for the options.

    `ram`: bytes the arena may take. Raises DoesNotFit with need and have where it takes more, and whatever compiling
    raises; `output` is then left as it was.
    """
    from edgert.build import compile as compile_model

    where = Path(output)
    if where.exists() and os.path.samefile(model, where):
        raise UsageError(f"{output} is the model itself: give -o another name")
    try:
        # Beside the output, so that the last step is a rename: what does not fit never takes the output's name.
        folder = tempfile.TemporaryDirectory(prefix=f".{where.name[:50]}.", dir=where.parent)
    except OSError as error:
        raise EdgertError(f"cannot write {output}: {error.strerror}") from None
    with folder as name:
        made = Path(name) / where.name
        report = compile_model(
            model,
            made,
            target=target,
            shapes=shapes,
            dims=dims,
            tune=tune,
            emit=emit,
            golden=golden,
            debug_dump=debug_dump,
            progress=progress,
            quant=quant,
            calibrate=calibrate,
            ram=ram,
            context=context,
            dram=dram,
            placing=placing,
            code=code,
            io=io,
            sparsity=sparsity,
            kv=kv,
        )
        manifest = report.manifest
        if ram is not None and manifest["arena_bytes"] > ram:
            raise DoesNotFit(fit_report(manifest, ram))
        replace_whole(made, where, Path(name))
    return BuildReport(
        path=str(where),
        name=manifest["name"],
        target=manifest["target"]["name"],
        file_bytes=report.file_bytes,
        arena_bytes=manifest["arena_bytes"],
        arena_lower_bound=manifest.get("planner", {}).get("lower_bound"),
        weights_bytes=manifest["weights_bytes"],
        steps=len(manifest["steps"]),
        macs=total_macs(manifest),
        seconds=dict(report.seconds),
        notes=list(report.notes),
    )


def replace_whole(made: Path, where: Path, folder: Path) -> None:
    """Gives the file or folder `made` the name `where`; what stood there is moved into `folder` if it is of that kind.

    Raises UsageError for a file in place of a folder, and the other way round, or a folder of something else.
    """
    if where.is_dir() != made.is_dir() and where.exists():
        raise UsageError(f"{where} is {'a folder' if where.is_dir() else 'a file'}: give -o another name")
    if where.is_dir():
        if any(where.iterdir()) and not (where / "edgert.json").is_file():
            raise UsageError(f"{where} is a folder with other things in it: give -o another name")
        os.replace(where, folder / ".before")
    os.replace(made, where)


def fit_report(manifest: Mapping[str, Any], ram: int) -> str:
    """What does not fit: need and have, and the step whose live buffers hold the peak."""
    need = manifest["arena_bytes"]
    text = f"does not fit: the arena needs {need} bytes ({format_bytes(need)}), --ram gives {ram} ({format_bytes(ram)})"
    live = [
        sum(buffer["size"] for buffer in manifest["plan"] if buffer["first"] <= step <= buffer["last"])
        for step in range(len(manifest["steps"]))
    ]
    if not live:
        return text
    worst = max(range(len(live)), key=live.__getitem__)
    step = manifest["steps"][worst]
    return f"{text}; the most is live in step {worst}, {step['name']} ({step.get('op', '')}): {live[worst]} bytes"


def report_text(report: BuildReport) -> None:
    """A few lines for people."""
    for note in report.notes:
        click.echo(f"note: {note}")
    size = f"{format_bytes(report.file_bytes)}, of it weights {format_bytes(report.weights_bytes)}"
    click.echo(f"{report.path}: {report.name} for {report.target}, {size}")
    bound = ""
    if report.arena_lower_bound is not None:
        bound = f" (no plan for this order can be below {format_bytes(report.arena_lower_bound)})"
    macs = f", {report.macs / 1e6:.1f} M MACs" if report.macs else ""
    click.echo(f"arena {format_bytes(report.arena_bytes)}{bound}; {report.steps} steps{macs}")
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.seconds.items() if name != "total")
    click.echo(f"took {report.seconds.get('total', sum(report.seconds.values())):.2f} s: {phases}")
