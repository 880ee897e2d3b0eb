"""Rounds of one model: compiled here, measured anywhere, kept as records."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from edgert import __version__
from edgert.errors import UsageError
from edgert.placing import Placing
from edgert.tuning.measure import Farm, Measure, counted, here

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tuned:
    """What `edgert tune` found: kernels that have a choice, of them changed ones, rounds; the cost of all, untuned and
    with the best of each, in microseconds or instructions as `unit` says; the file."""

    path: str
    target: str
    kernels: int
    changed: int
    rounds: int
    devices: int
    default: float
    best: float
    unit: str


def tune(
    model: str,
    target: str = "host",
    device: str = "local",
    tracker: str | None = None,
    key: str | None = None,
    trials: int = 16,
    output: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    progress: Progress | None = None,
    measure: Measure | None = None,
) -> Tuned:
    """Measures up to `trials` tilings of every kernel of `model` that has no record yet, on one thread.

    device: its URI; or tracker: host:port of a TVM RPC tracker, whose devices of the kind `key` (default: the target's
    name) share the rounds. output: the file of records to add to (default: the user's own, which `compile` looks at
    beside the shipped ones). What was measured is kept after every round. Raises UsageError and what compiling and
    measuring raise.
    """
    from compiler.pipeline import Compiled, compile_model
    from compiler.tune import Records
    from compiler.tune.rounds import Rounds
    from edgert.emit import Output, emitter_of
    from targets import get_target
    from targets.microcontroller import Microcontroller

    chosen = get_target(target)
    simulated = isinstance(chosen, Microcontroller)
    if simulated and tracker is not None:
        raise UsageError(f"{chosen.name} is counted on its simulator: leave --tracker out")
    if simulated and device == "local":
        device = f"sim://{chosen.name}"
    if tracker is not None and device != "local":
        raise UsageError("--device and --tracker: give one")
    farm = Farm(tracker, key or chosen.name) if tracker is not None else None
    measure = measure or (farm.measure if farm else lambda path: (counted if simulated else here)(path, device))
    emit = emitter_of("edge", chosen, Placing())
    records = Records(chosen, file=Path(output) if output is not None else None)
    rounds, lock = Rounds(chosen, records, trials), threading.Lock()

    with tempfile.TemporaryDirectory(prefix="edgert-tune-") as folder:

        def made(number: int) -> tuple[Compiled, Path]:
            # one at a time: TVM's state is the process's
            done = compile_model(Path(model), chosen, shapes, dims, tiles=rounds.tiles(number))
            path = Path(folder) / f"{number}.edge"
            done.manifest["producer"] = {"edgert": __version__, **done.manifest["producer"]}
            emit(Output(done, path, {}, {}, done.members, Placing()))
            return done, path

        def run(number: int) -> None:
            with lock:
                done, path = made(number)
            taken = measure(path)
            path.unlink()
            with lock:
                rounds.learn(number, done.program, taken)
                rounds.save()
                if progress:
                    progress("rounds", number + 1, rounds.count)

        run(0)
        with ThreadPoolExecutor(farm.devices if farm else 1) as pool:
            waiting = [pool.submit(run, number) for number in range(1, rounds.count)]
            for future in as_completed(waiting):
                if error := future.exception():
                    for other in waiting:
                        other.cancel()
                    raise error
    unit = "instructions" if simulated else "us"
    best = [records.found[name] for name in rounds.times if rounds.candidates[name]]
    return Tuned(
        str(records.path), chosen.name, len(best), sum(bool(record["config"]) for record in best), rounds.count,
        farm.devices if farm else 1, sum(record[f"default_{unit}"] for record in best),
        sum(record[unit] for record in best), unit,
    )  # fmt: skip


def tuned_text(result: Tuned) -> None:
    """Two lines."""
    import click

    on = f" on {result.devices} devices" if result.devices > 1 else ""
    click.echo(
        f"{result.kernels} kernels of {result.target} in {result.rounds} rounds{on}, {result.changed} are faster with "
        f"other tiles: {result.default:,.0f} {result.unit} before, {result.best:,.0f} {result.unit} now"
    )
    click.echo(f"records: {result.path}")
