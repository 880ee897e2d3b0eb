"""Control flow in a graph without branches or loops: an If becomes a choice between two results, a loop is unrolled.

ONNX operators have no side effects, so computing both branches of an If and taking one result is the same as taking one
branch, as long as both give the same shape. A Loop of a known number of iterations, and a Scan over a known length, are
their bodies one after another. What remains (a number of iterations only known at run time) is refused.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.ops.registry import Unsupported

from .branches import known_condition, take_out
from .constants import ConstantFolder
from .facts import Facts
from .functions import CHAIN, Copier, Inliner
from .nodes import op_version

MOST_NODES = 5_000  # of an unrolled loop: beyond, compiling takes minutes and the code gets large
SELECT = "edgert.select"  # meta key of a Where that stands for an If: its two results must have one shape
TRAPS = {"Div", "Mod"}  # integer ones fault where the divisor is 0, which the branch not taken might make it
NEAREST = "a number of iterations that is known at compile time"
AXES = 13  # the opset from which Unsqueeze takes its axes as an input


def expand(node: ir.Node, facts: Facts, inliner: Inliner) -> list[ir.Node] | None:
    """Replaces a control-flow node by plain ones, which it returns; None for other nodes.

    Raises Unsupported with the reason for a loop that cannot be unrolled.
    """
    rewrite = {"If": _select, "Loop": _unroll_loop, "Scan": _unroll_scan}.get(node.op_type)
    return None if rewrite is None or node.domain not in ("", "ai.onnx") else rewrite(node, facts, inliner)


class _Work:
    """New nodes in place of one, with constants they need."""

    def __init__(self, node: ir.Node, facts: Facts, inliner: Inliner) -> None:
        assert node.graph is not None
        self.node, self.graph, self.facts, self.inliner = node, node.graph, facts, inliner
        self.label = node.name or node.op_type
        self.made: list[ir.Node] = []

    def constant(self, data: np.ndarray) -> ir.Value:
        name = self.inliner.name(f"{self.label}/constant")
        tensor = ir.tensor(data, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(data.shape), const_value=tensor)
        self.graph.initializers[name] = value
        ConstantFolder(self.facts).know(name, tensor)
        return value

    def op(self, op: str, inputs: list[ir.Value], attrs: dict | None = None, version: int = AXES) -> ir.Value:
        attributes = [ir.AttrInt64(k, v) for k, v in (attrs or {}).items()]
        node = ir.Node("", op, inputs, attributes, version=version, name=self.inliner.name(f"{self.label}/{op}"))
        node.outputs[0].name = self.inliner.name(f"{self.label}/{op}")
        self.made.append(node)
        return node.outputs[0]

    def body(self, graph: ir.Graph, values: dict[ir.Value, ir.Value | None]) -> list[ir.Value]:
        """A copy of a body for these inputs; its outputs."""
        copier = Copier(self.inliner, {}, self.node.meta.get(CHAIN, ()), {}, self.label)
        self.made += copier.nodes(graph, values)
        return [found for v in graph.outputs if (found := values.get(v, v)) is not None]

    def adopt(self, graph: ir.Graph) -> None:
        """Moves a body's initializers out: its copies share them."""
        values = list(graph.initializers.values())
        graph.initializers.clear()
        for value in values:
            self.graph.initializers[value.name or ""] = value
        ConstantFolder(self.facts).adopt(values)

    def stack(self, parts: list[ir.Value], axis: int) -> ir.Value:
        """Values side by side along a new axis."""
        axes = self.constant(np.array([axis], np.int64))
        rows = [self.op("Unsqueeze", [part, axes]) for part in parts]
        return self.op("Concat", rows, {"axis": axis})

    def finish(self, results: list[ir.Value]) -> list[ir.Node]:
        self.made += self.inliner.replace_outputs(self.node, results, self.made)
        self.graph.insert_before(self.node, self.made)
        self.graph.remove(self.node, safe=True)
        return self.made


def _select(node: ir.Node, facts: Facts, inliner: Inliner) -> list[ir.Node]:
    """Both branches, then Where."""
    graphs = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = node.inputs[0]
    fact = facts.values.get(condition.name or "") if condition is not None else None
    if condition is None or fact is None or any(d != 1 for d in fact.shape):
        raise Unsupported("an If needs one condition", "a condition of one element")
    for graph in graphs:
        if any(n.op_type in TRAPS or n.op_type in ("Loop", "Scan") for n in graph.all_nodes()):
            raise Unsupported("a branch that divides or loops depends on run-time values", "a constant condition")
    work = _Work(node, facts, inliner)
    if fact.shape:
        condition = work.op("Reshape", [condition, work.constant(np.zeros(0, np.int64))])
    sides = []
    for graph in graphs:
        branch = take_out(graph, work.graph)
        ConstantFolder(facts).adopt(branch.initializers)
        work.made += branch.nodes
        sides.append(branch.outputs)
    results = []
    for then, other in zip(*sides, strict=True):
        results.append(work.op("Where", [condition, then, other], version=16))
        work.made[-1].meta[SELECT] = True
    return work.finish(results)


def _unroll_loop(node: ir.Node, facts: Facts, inliner: Inliner) -> list[ir.Node]:
    body = node.attributes["body"].as_graph()
    trips = _trip_count(node, body, facts)
    if trips * max(1, len(body)) > MOST_NODES:
        raise Unsupported(
            f"a loop of {trips} iterations over {len(body)} nodes is too long to unroll", "a shorter loop"
        )
    work = _Work(node, facts, inliner)
    carried: list[ir.Value] = [v for v in node.inputs[2:] if v is not None]
    if len(carried) != len(body.inputs) - 2:
        raise Unsupported("the loop's body takes other inputs than the loop gives", "as many inputs as carried values")
    columns = len(body.outputs) - 1 - len(carried)
    if columns < 0 or (columns and not trips):
        raise Unsupported("a loop of no iterations that collects results", "at least one iteration")
    work.adopt(body)
    true = work.constant(np.array(True))
    rows: list[list[ir.Value]] = []
    for i in range(trips):
        values: dict[ir.Value, ir.Value | None] = dict(
            zip(body.inputs, [work.constant(np.array(i, np.int64)), true, *carried], strict=True)
        )
        outputs = work.body(body, values)[1:]
        carried, scanned = outputs[: len(carried)], outputs[len(carried) :]
        rows.append(scanned)
    stacked = [work.stack([row[j] for row in rows], 0) for j in range(columns)]
    return work.finish([*carried, *stacked])


def _trip_count(node: ir.Node, body: ir.Graph, facts: Facts) -> int:
    count, condition = (node.inputs[i] if len(node.inputs) > i else None for i in (0, 1))
    start = True if condition is None or not condition.name else known_condition(condition.name, facts)
    if start is False:
        return 0
    if count is None or not count.name or count.name not in facts.constants or start is None:
        raise Unsupported("the number of iterations depends on run-time values", NEAREST)
    if not _stays_true(body.outputs[0], body, facts):
        raise Unsupported("the loop's condition depends on run-time values", NEAREST)
    return max(0, int(facts.constants[count.name].reshape(-1)[0]))


def _stays_true(value: ir.Value, body: ir.Graph, facts: Facts) -> bool:
    """Whether the condition a body hands on is always true: its own input, or a constant."""
    while (producer := value.producer()) is not None:
        if producer.op_type == "Constant" and "value" in producer.attributes:
            return bool(producer.attributes["value"].value.numpy().reshape(-1)[0])
        source = producer.inputs[0] if producer.op_type in ("Identity", "Cast") and producer.inputs else None
        if source is None:
            return False
        value = source
    if value.const_value is not None:
        return bool(value.const_value.numpy().reshape(-1)[0])
    return value is body.inputs[1] or known_condition(value.name or "", facts) is True


def _unroll_scan(node: ir.Node, facts: Facts, inliner: Inliner) -> list[ir.Node]:
    if op_version(node, facts) < 9:
        raise Unsupported("Scan of opset 8 has a batch axis of its own", "Scan of opset 9 or newer")
    body = node.attributes["body"].as_graph()
    many = int(node.attributes["num_scan_inputs"].value)
    carried = [v for v in node.inputs[: len(node.inputs) - many] if v is not None]
    sequences = [v for v in node.inputs[len(node.inputs) - many :] if v is not None]
    in_axes, in_back = _ints(node, "scan_input_axes", many), _ints(node, "scan_input_directions", many)
    columns = len(body.outputs) - len(carried)
    out_axes, out_back = _ints(node, "scan_output_axes", columns), _ints(node, "scan_output_directions", columns)
    length = _scan_length(sequences, in_axes, facts)
    if length * max(1, len(body)) > MOST_NODES:
        raise Unsupported(
            f"a scan of {length} steps over {len(body)} nodes is too long to unroll", "a shorter sequence"
        )
    work = _Work(node, facts, inliner)
    work.adopt(body)
    rows: list[list[ir.Value]] = []
    for i in range(length):
        steps = [work.constant(np.array(length - 1 - i if back else i, np.int64)) for back in in_back]
        items = [
            work.op("Gather", [s, step], {"axis": a}) for s, step, a in zip(sequences, steps, in_axes, strict=True)
        ]
        values: dict[ir.Value, ir.Value | None] = dict(zip(body.inputs, [*carried, *items], strict=True))
        outputs = work.body(body, values)
        carried, scanned = outputs[: len(carried)], outputs[len(carried) :]
        rows.append(scanned)
    stacked = []
    for j, (axis, back) in enumerate(zip(out_axes, out_back, strict=True)):
        parts = [row[j] for row in rows]
        rank = len(body.outputs[len(carried) + j].shape or ()) + 1
        if axis < 0 and body.outputs[len(carried) + j].shape is None:
            raise Unsupported("a negative axis of a scan output of unknown rank", "an axis counted from the front")
        stacked.append(work.stack(parts[::-1] if back else parts, axis % rank if axis < 0 else axis))
    return work.finish([*carried, *stacked])


def _ints(node: ir.Node, name: str, count: int) -> list[int]:
    return [int(v) for v in node.attributes[name].value] if name in node.attributes else [0] * count


def _scan_length(sequences: list[ir.Value], axes: list[int], facts: Facts) -> int:
    lengths = set()
    for value, axis in zip(sequences, axes, strict=True):
        shape = facts.values[value.name or ""].shape
        if not shape or not isinstance(shape[axis], int):
            raise Unsupported("the length of the sequence is only known at run time", "a sequence of fixed length")
        lengths.add(shape[axis])
    if len(lengths) != 1 or 0 in lengths:
        raise Unsupported("sequences of different lengths or none", "sequences of one length")
    return int(lengths.pop())
