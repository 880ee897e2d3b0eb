"""What the manifest says of a program for a graphics processor: which kernel each step launches, on which bytes."""

from __future__ import annotations

from typing import Any

from compiler.codegen.lower import symbol
from compiler.program import Buffer, Program
from targets.target import Target

KERNELS = "kernels.cl"  # the member that holds the source of all kernels


def device_entry(program: Program, target: Target) -> dict[str, Any]:
    """The manifest's entry `device`: see docs/artifact.md."""
    launches = []
    for number, step in enumerate(program.steps):
        if step.stage.workgroup:
            launches.append({
                "step": number, "kernel": symbol(step.stage, target), "workgroup": step.stage.workgroup,
                "dims": len(step.stage.dims), "buffers": [_place(buffer) for buffer in step.buffers],
            })  # fmt: skip
    return {"api": "opencl", "member": KERNELS, "launches": launches}


def _place(buffer: Buffer) -> list[Any]:
    """Where a buffer begins: in which memory, its number there (inputs, then outputs), the byte."""
    root, at = buffer.root()
    if root.space == "io":
        return ["io", root.index, at]
    assert buffer.offset >= 0, f"{buffer.name} has no place"
    return [buffer.space, 0, buffer.offset]


def notes(program: Program) -> list[str]:
    """One line on what runs on the CPU beside the graphics processor, if anything does."""
    left = [f"{step.op} {step.name}" for step in program.steps if not step.stage.workgroup]
    if not left:
        return []
    more = f" and {len(left) - 4} more" if len(left) > 4 else ""
    named = f"{', '.join(left[:4])}{more}"
    return [f"{len(left)} of {len(program.steps)} steps run on the CPU, the GPU has no kernel: {named}"]
