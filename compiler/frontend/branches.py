"""If with a condition known at compile time: the branch taken moves into the graph around it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from tvm import tirx

from targets.errors import EdgertError

from .dims import provable
from .facts import Facts
from .functions import Inliner
from .nodes import op_domain


@dataclass
class Branch:
    """What moved out of the branch: its nodes in order, its initializers, and the values it gives."""

    nodes: list[ir.Node]
    initializers: list[ir.Value]
    outputs: list[ir.Value]


def has_subgraph(node: ir.Node) -> bool:
    """Whether the node holds graphs of its own (If, Loop, Scan)."""
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def known_condition(name: str, facts: Facts) -> bool | None:
    """The truth of a scalar condition where it does not depend on the model's inputs, else None."""
    if name in facts.constants:
        tensor = facts.constants.tensor(name)
        return bool(facts.constants[name].reshape(-1)[0]) if tensor.size == 1 else None
    if name in facts.symbolic and facts.symbolic[name].size == 1:
        value = facts.symbolic[name].reshape(-1)[0]
        return provable(value) if isinstance(value, tirx.Expr) else bool(value)
    return None


def constant_branch(node: ir.Node, facts: Facts, inliner: Inliner) -> Branch | None:
    """Replaces an If whose condition is known by its branch; None, and nothing changed, for all other nodes."""
    if node.op_type != "If" or op_domain(node) or node.graph is None:
        return None
    if not node.inputs or node.inputs[0] is None:
        raise EdgertError(f"node {node.name}: an If needs a condition; the model is damaged")
    condition = known_condition(node.inputs[0].name or "", facts)
    if condition is None:
        return None
    attr = node.attributes.get("then_branch" if condition else "else_branch")
    if attr is None or attr.type != ir.AttributeType.GRAPH or len(attr.as_graph().outputs) != len(node.outputs):
        raise EdgertError(f"node {node.name}: an If needs two branches with as many outputs as itself")
    outer = node.graph
    branch = take_out(attr.as_graph(), outer)
    branch.nodes += inliner.replace_outputs(node, branch.outputs, branch.nodes)
    outer.insert_before(node, branch.nodes)
    outer.remove(node, safe=True)
    return branch


def take_out(graph: ir.Graph, outer: ir.Graph) -> Branch:
    """Empties a branch: its initializers move to `outer`, its nodes belong to nobody until somebody inserts them."""
    branch = Branch(list(graph), list(graph.initializers.values()), list(graph.outputs))
    graph.outputs.clear()
    graph.initializers.clear()
    graph.remove(branch.nodes)
    for value in branch.initializers:
        outer.initializers[value.name or ""] = value
    return branch
