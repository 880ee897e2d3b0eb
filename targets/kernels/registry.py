"""Which schedule template takes which fused group.

A template is a function `(Call, Target) -> list[Stage] | None`; None leaves the group to the next one, and at last to
the generic loop nest. Importing this package's modules registers them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from targets.target import Target

from .stage import Stage
from .tensor import Tensor

Template = Callable[["Call", Target], "list[Stage] | None"]
TEMPLATES: dict[tuple[str, str], list[Template]] = {}
# Whose templates a family takes, its own first: those of CPUs are right for any target that LLVM has.
FAMILIES = {"cpu": ("cpu",), "mcu": ("mcu", "cpu"), "gpu": ("gpu",)}


@dataclass(eq=False)
class Call:
    """One fused group as a template sees it: an anchor operator and the element-wise tail that follows it.

    inputs: the anchor's inputs, all leaves; one known at compile time has `.data`. outputs: what the anchor computes,
    as leaves nobody stores. final: the group's result as an expression over outputs[0] and further leaves (outputs[0]
    itself when nothing follows). result: the leaf to store it in. A template binds outputs[0] to its accumulator, reads
    `final` and stores that; anchors with several outputs store `results` and have no tail.
    """

    op: str
    attrs: dict[str, Any]
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    final: Tensor
    results: list[Tensor]
    config: dict[str, int] = field(default_factory=dict)  # tile sizes from the records; empty: the template's own

    @property
    def result(self) -> Tensor:
        """The leaf that the group's result is stored in."""
        return self.results[0]

    def need(self, i: int) -> Tensor:
        """Input i, one that the operator cannot do without."""
        t = self.inputs[i] if i < len(self.inputs) else None
        assert t is not None, f"{self.op} without input {i}"
        return t


def template(op: str, family: str = "cpu") -> Callable[[Template], Template]:
    """Registers a schedule template for `op` (an ONNX name, or `edgert.Name` for the compiler's own operators)."""

    def register(fn: Template) -> Template:
        TEMPLATES.setdefault((family, op), []).append(fn)
        return fn

    return register


def templates_for(op: str, target: Target) -> list[Template]:
    """The templates that may take `op` on `target`, in the order in which they are asked."""
    return [fn for family in FAMILIES[target.family] for fn in TEMPLATES.get((family, op), [])]


def stages_for(call: Call, target: Target) -> list[Stage] | None:
    """The stages of the first template that takes `call`, or None."""
    for fn in templates_for(call.op, target):
        stages = fn(call, target)
        if stages is not None:
            return stages
    return None
