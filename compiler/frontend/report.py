"""What `edgert inspect` and `edgert compile` say about a model: inputs, operators, weights, what would not compile."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from .dims import dim_text, shape_text
from .facts import Facts, Problem, problem_table
from .nodes import op_domain


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its dimensions as text for symbolic ones."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Report:
    """One model after inference."""

    name: str
    ir_version: int
    opsets: dict[str, int]
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    dims: dict[str, tuple[int, int]]
    operators: dict[str, int]
    weight_count: int  # elements of all constants
    weight_bytes: int
    problems: list[Problem]
    notes: list[str]

    @property
    def supported(self) -> bool:
        """Whether it would compile."""
        return not self.problems

    def json(self) -> dict[str, Any]:
        """The same as plain data for --json."""
        data = asdict(self)
        data["supported"] = self.supported
        return data

    def text(self) -> str:
        """The same for people."""
        opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(self.opsets.items()))
        lines = [f"{self.name or 'model'}: ONNX IR {self.ir_version}, opset {opsets}"]
        for title, tensors in (("input", self.inputs), ("output", self.outputs)):
            for t in tensors:
                lines.append(f"  {title:<7} {t.name}: {t.dtype} {'x'.join(map(str, t.shape)) or 'scalar'}")
        for name, (low, high) in self.dims.items():
            lines.append(f"  dim     {name}: {low}..{high}")
        lines.append(f"  weights {self.weight_count:,} in {self.weight_bytes:,} bytes")
        counts = sorted(self.operators.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"  {sum(self.operators.values())} operators: " + ", ".join(f"{n} {op}" for op, n in counts))
        lines += [f"  note: {note}" for note in self.notes]
        if self.problems:
            lines.append(problem_table(self.problems))
        return "\n".join(lines)


def report(model: ir.Model, facts: Facts) -> Report:
    """The report on a model after `infer`."""
    graph = model.graph
    counts = Counter(f"{op_domain(n)}.{n.op_type}" if op_domain(n) else n.op_type for n in graph)
    constants = [facts.constants.tensor(name) for name in graph.initializers if name in facts.constants]
    return Report(
        name=graph.name or "",
        ir_version=model.ir_version,
        opsets=dict(facts.opsets),
        inputs=[_info(v, facts) for v in graph.inputs],
        outputs=[_info(v, facts) for v in graph.outputs],
        dims=dict(facts.bounds),
        operators=dict(counts),
        weight_count=sum(t.size for t in constants),
        weight_bytes=sum(t.nbytes for t in constants),
        problems=list(facts.problems),
        notes=list(facts.notes),
    )


def _info(value: ir.Value, facts: Facts) -> TensorInfo:
    fact = facts.values.get(value.name or "")
    if fact is None:
        return TensorInfo(value.name or "", str(value.type or "unknown"), ("?",))
    return TensorInfo(value.name or "", fact.dtype, tuple(d if isinstance(d, int) else dim_text(d) for d in fact.shape))


__all__ = ["Report", "TensorInfo", "report", "shape_text"]
