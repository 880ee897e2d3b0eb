"""What a run costs on a simulated microcontroller: instructions, stack, memory. Counts, never times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import click

from edgert.interface.model import open_model
from edgert.interface.simulated import SimulatedModel


@dataclass(frozen=True)
class Step:
    """One operator: its instructions, and how many for each multiply-accumulate."""

    name: str
    op: str
    kernel: str
    instructions: int
    macs: int


@dataclass(frozen=True)
class Counted:
    """instructions: of one run, exact. instructions_per_mhz: what they would be in ms were each one cycle long; no
    measured time. Sizes in bytes; code: all of the firmware but the weights, with start-up and harness; ram: all that
    the firmware takes with the stack as deep as it was.
    """

    name: str
    device: str
    simulator: str
    board: str
    instructions: int
    macs: int
    clock_mhz: float
    code_bytes: int
    weights_bytes: int
    data_bytes: int
    io_bytes: int
    arena_bytes: int
    arena_used: int
    stack_used: int
    ram_bytes: int
    steps: list[Step]
    stalls: int | None = None  # cycles waited for external flash, of an instruction each
    flash_bytes: int = 0  # read from it
    external_mb_s: float = 0.0  # how fast it is taken to be


def count(
    path: str, device: str, profile: bool = False, shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> Counted:
    """One run of the firmware at `path`, or of a model compiled for it, on its golden inputs (else on seeded ones)."""
    from edgert.interface.bench import random_inputs

    with open_model(path, shapes, {}, None, device) as model:
        assert isinstance(model, SimulatedModel)
        inputs = model.artifact.golden()[0] or random_inputs(model.manifest)
        steps = model.profile(inputs) if profile else []
        if not steps:
            model.run(inputs)
        return cost_of(model, steps)


def cost_of(model: SimulatedModel, steps: Sequence[dict[str, Any]]) -> Counted:
    """What the model's last run cost. steps: as its `profile` gives them."""
    assert model.last is not None
    sizes: dict[str, int] = {name: size for name, (_, size) in model.firmware.sections.items()}
    data, io = sizes.get(".data", 0) + sizes.get(".bss", 0), sizes.get(".io", 0)
    code = sum(sizes.get(name, 0) for name in (".vectors", ".text", ".rodata", ".ARM.exidx", ".data"))
    arena = model.manifest["arena_bytes"]
    return Counted(
        model.manifest["name"], model.uri, model.simulator.name, model.board.name, model.last.instructions,
        sum(step.get("macs", 0) for step in model.manifest["steps"]), model.board.clock_mhz, code,
        sizes.get(".weights", 0), data, io, arena, model.last.arena_bytes, model.last.stack_bytes,
        data + io + arena + model.last.stack_bytes, [_step(step) for step in steps],
        model.last.stalls, model.last.flash_bytes, model.board.external_mb_s,
    )  # fmt: skip


def _step(step: dict[str, Any]) -> Step:
    return Step(step["name"], step["op"], step["kernel"], step["instructions"], step.get("macs", 0))


def counted_text(found: Counted) -> None:
    """The costs for people, then a row per step."""
    from edgert.interface.show import table

    rate = f", {found.instructions / found.macs:.2f} per MAC" if found.macs else ""
    click.echo(f"{found.name} on {found.device} ({found.simulator}, {found.board})")
    click.echo(f"{found.instructions:,} instructions{rate}; instructions / {found.clock_mhz:g} MHz = "
               f"{found.instructions / found.clock_mhz / 1e3:.2f} ms (no measured time)")  # fmt: skip
    click.echo(f"flash: code {found.code_bytes:,} bytes, weights {found.weights_bytes:,}")
    click.echo(f"RAM: {found.ram_bytes:,} bytes: arena {found.arena_bytes:,} (used {found.arena_used:,}), inputs and "
               f"outputs {found.io_bytes:,}, data {found.data_bytes:,}, stack {found.stack_used:,}")  # fmt: skip
    if found.stalls is not None:
        speed = f"at {found.external_mb_s:g} MB/s and an instruction a cycle"
        click.echo(
            f"external flash: {found.flash_bytes:,} bytes read; {speed} {found.stalls:,} cycles of waiting beside"
        )
    rows = [
        [step.op, step.kernel, f"{step.instructions:,}", f"{step.instructions / step.macs:.2f}" if step.macs else ""]
        for step in found.steps
    ]
    if rows:
        table(["operator", "kernel", "instructions", "per MAC"], rows, left=2)
