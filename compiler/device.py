"""What the manifest says of a program for a graphics processor: which kernel each step launches, on which bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tvm

from compiler.codegen.lower import symbol
from compiler.codegen.opencl import program_source
from compiler.codegen.shaders import SUFFIXES, shader_sources
from compiler.program import Buffer, Program, Step
from targets.errors import UnsupportedModel
from targets.gpu import Gpu

KERNELS = "kernels.cl"  # the member that holds the source of all kernels
SHADERS = "kernels"  # the folder of those with a source of their own


def kernel_sources(programs: Iterable[Program], target: Gpu) -> dict[str, bytes]:
    """The source of all kernels, as members of an artifact: one of OpenCL C, or a shader each.

    Raises UnsupportedModel for a step that a target of source only has no kernel for.
    """
    steps = [step for program in programs for step in program.steps]
    if not target.source_only:
        return {KERNELS: program_source([s.stage for s in steps if s.stage.workgroup], target).encode()}
    left = [step for step in steps if not step.stage.workgroup]
    if left:
        raise UnsupportedModel(f"{target.name} has no kernel for {_named(left)} (of {len(steps)} steps)")
    return {f"{SHADERS}/{name}": text for step in steps for name, text in _shader(step, target)}


def _shader(step: Step, target: Gpu) -> Iterable[tuple[str, bytes]]:
    try:
        return shader_sources([step.stage], target).items()
    except tvm.error.InternalError as error:
        reason = str(error).strip().splitlines()[0].partition(" The function is")[0]
        raise UnsupportedModel(
            f"{step.op} {step.name}: {target.name} has no kernel for this form, the code generator says: {reason}"
        ) from None


def device_entry(program: Program, target: Gpu) -> dict[str, Any]:
    """The manifest's entry `device`: see docs/artifact.md."""
    launches = []
    for number, step in enumerate(program.steps):
        if step.stage.workgroup:
            launches.append({
                "step": number, "kernel": symbol(step.stage, target), "workgroup": step.stage.workgroup,
                "dims": len(step.stage.dims), "buffers": [_place(buffer) for buffer in step.buffers],
            })  # fmt: skip
            if target.source_only:
                sizes = [buffer.bytes for buffer in step.buffers]
                launches[-1] |= {"items": step.stage.tasks, "sizes": sizes}
    member = f"{SHADERS}/*.{SUFFIXES[target.api]}" if target.source_only else KERNELS
    return {"api": target.api, "member": member, "launches": launches}


def _place(buffer: Buffer) -> list[Any]:
    """Where a buffer begins: in which memory, its number there (inputs, then outputs), the byte."""
    root, at = buffer.root()
    if root.space == "io":
        return ["io", root.index, at]
    assert buffer.offset >= 0, f"{buffer.name} has no place"
    return [buffer.space, 0, buffer.offset]


def notes(program: Program) -> list[str]:
    """One line on what runs on the CPU beside the graphics processor, if anything does."""
    left = [step for step in program.steps if not step.stage.workgroup]
    if not left:
        return []
    return [f"{len(left)} of {len(program.steps)} steps run on the CPU, the GPU has no kernel: {_named(left)}"]


def _named(steps: Sequence[Step]) -> str:
    more = f" and {len(steps) - 4} more" if len(steps) > 4 else ""
    return f"{', '.join(f'{step.op} {step.name}' for step in steps[:4])}{more}"
