"""The graph verifier: what must hold between phases, in tests and in every compile."""

from __future__ import annotations

import onnx_ir as ir

from compiler.frontend.facts import Facts


class BrokenGraph(RuntimeError):
    """A phase left the graph inconsistent: a bug in the compiler, not in the model."""


def verify(model: ir.Model, facts: Facts, phase: str) -> None:
    """Every value read is made before (or is an input or a constant), has a shape and a type, and is made once.

    Raises BrokenGraph naming the phase and the value.
    """
    known = {v.name for v in model.graph.inputs} | set(model.graph.initializers) | set(facts.constants)
    made: set[str] = set()
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.name not in known:
                raise BrokenGraph(
                    f"after {phase}: {node.op_type} {node.name} reads {value.name}, which nothing made before"
                )
        for value in node.outputs:
            if not value.name:
                continue
            if value.name in made:
                raise BrokenGraph(f"after {phase}: {value.name} is made twice")
            made.add(value.name)
            known.add(value.name)
            if value.name not in facts.values:
                raise BrokenGraph(f"after {phase}: {node.op_type} {node.name}: nothing is known of {value.name}")
    for value in model.graph.outputs:
        if value.name not in known:
            raise BrokenGraph(f"after {phase}: the output {value.name} is never made")
