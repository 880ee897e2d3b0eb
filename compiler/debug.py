"""`--debug-dump DIR`: the graph and the plan after every phase, as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from compiler.frontend.facts import Facts
    from compiler.placement import Placement
    from compiler.program import Program


class Dump:
    """Writes one file a phase into a folder; does nothing without one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def graph(self, phase: str, model: ir.Model, facts: Facts) -> None:
        """The nodes with the shape and type of each output."""
        if not self.folder:
            return
        lines = []
        for node in model.graph:
            outs = []
            for value in node.outputs:
                fact = facts.values.get(value.name or "")
                outs.append(f"{value.name}: {fact.dtype}{list(fact.shape)}" if fact else str(value.name))
            inputs = ", ".join(str(v.name) if v is not None else "-" for v in node.inputs)
            lines.append(f"{'; '.join(outs)} = {node.domain}{'.' if node.domain else ''}{node.op_type}({inputs})")
        (self.folder / f"{phase}.txt").write_text("\n".join(lines) + "\n")

    def program(self, phase: str, program: Program, placement: Placement) -> None:
        """The kernel calls with their buffers, then the arena."""
        if not self.folder:
            return
        lines = []
        for i, step in enumerate(program.steps):
            buffers = ", ".join(("*" if k in step.writes else "") + b.name for k, b in enumerate(step.buffers))
            lines.append(
                f"{i:4} {step.stage.kernel:40} tasks={step.stage.tasks} macs={step.macs} {step.name} ({buffers})"
            )
        lines.append(f"arena {placement.arena_bytes} bytes (at least {placement.lower_bound}), {placement.planner}")
        for buffer, (first, last) in zip(placement.buffers, placement.lives, strict=True):
            lines.append(f"{buffer.offset:10} {buffer.bytes:10} {first:4}-{last:4} {buffer.name}")
        (self.folder / f"{phase}.txt").write_text("\n".join(lines) + "\n")
        for i, step in enumerate(program.steps):
            (self.folder / f"{phase}-{i:04}.tir").write_text(step.stage.func.script())
