"""Shapes, types and constants of every value, by the operators' own definitions; everything unsupported in one list.

The graph is changed on the way: functions are inlined, nodes whose inputs are all constants become initializers, an If
whose condition is known becomes its branch, and nodes that nobody reads go. So what is left is what gets compiled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from compiler.ops.registry import Custom, Node, OpDef, Unsupported, find
from targets.errors import EdgertError
from targets.kernels.tensor import Index, Tensor, same_shape

from . import control, symbolic
from .branches import constant_branch, has_subgraph
from .constants import ConstantFolder
from .dims import at_corner, dim_text, shape_text
from .facts import Facts, Problem, ValueFact
from .functions import Inliner
from .nearest import nearest_form
from .nodes import make_node, op_domain, op_version, wanted
from .onnx_shapes import declared_fact, onnx_facts
from .simplify import remove_unused
from .types import dtype_name


def infer(model: ir.Model, bounds: Mapping[str, tuple[int, int]] | None = None) -> Facts:
    """Facts about every value of `model`, whose inputs `specialise` has given known or bounded dimensions.

    bounds: symbolic dim -> (smallest, largest). Unsupported nodes are collected in `Facts.problems`, never raised.
    Raises EdgertError for a model that is malformed rather than unsupported.
    """
    inference = Inference(model, bounds or {})
    inference.inputs(model.graph)
    remove_unused(model.graph)
    inference.walk(model.graph)
    removed = remove_unused(model.graph)
    inference.finish(removed)
    return inference.facts


class Inference:
    """One pass over a model. `walk` also takes a subgraph, whose outer values are then in `facts` already."""

    def __init__(self, model: ir.Model, bounds: Mapping[str, tuple[int, int]]) -> None:
        self.model = model
        self.facts = Facts(opsets={("" if d == "ai.onnx" else d): v for d, v in model.opset_imports.items()})
        self.facts.notes.extend(getattr(bounds, "notes", ()))
        for name, (low, high) in bounds.items():
            self.facts.declare(name, low, high)
        self._inliner = Inliner(model, self.facts)
        self._folder = ConstantFolder(self.facts)
        self._problems: list[tuple[ir.Node | None, Problem]] = []
        self._leaves: dict[str, Tensor] = {}

    # ---- what is given --------------------------------------------------------------------------------------------
    def inputs(self, graph: ir.Graph) -> None:
        """Facts about the graph's inputs and initializers."""
        for value in graph.inputs:
            self._input(value)
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None or not self._folder.know(name, tensor):
                self._report(None, name, "(initializer)", f"element type {tensor.dtype if tensor else 'unknown'}")

    def _input(self, value: ir.Value) -> None:
        name = value.name or ""
        dtype = dtype_name(value.dtype) if isinstance(value.type, ir.TensorType) else None
        if dtype is None or value.shape is None:
            kind = "no known type" if value.type is None else f"type {value.type}"
            self._report(None, name, "(input)", kind, "tensors of numbers or bools")
            return
        dims: list[Index] = []
        for dim in value.shape:
            if isinstance(dim, int):
                dims.append(dim)
            elif str(dim.value) in self.facts.vars:
                dims.append(self.facts.vars[str(dim.value)])
            else:
                raise EdgertError(f"input {name}: dimension {dim.value} has neither a value nor bounds")
        self.facts.values[name] = ValueFact(tuple(dims), dtype)

    # ---- the walk -------------------------------------------------------------------------------------------------
    def walk(self, nodes: Iterable[ir.Node]) -> None:
        """Visits nodes in topological order, and those that take the place of inlined ones."""
        todo = deque(nodes)
        while todo:
            todo.extendleft(reversed(self._visit(todo.popleft())))

    def _visit(self, node: ir.Node) -> list[ir.Node]:
        """Facts about one node's outputs. Returns nodes that came into its place and are to be visited next."""
        if not any(wanted(v) for v in node.outputs):
            return []
        if (op_domain(node), node.op_type, node.overload) in self.model.functions:
            return self._inliner.inline(node, schemas=False) or []
        if node.op_type == "Constant" and not op_domain(node):
            if not self._folder.literal(node):
                self._unsupported(node, "a constant that is not a dense tensor of numbers or bools")
            return []
        branch = constant_branch(node, self.facts, self._inliner)
        if branch is not None:
            self._folder.adopt(branch.initializers)
            return branch.nodes
        value = symbolic.evaluate(node, self.facts)
        if value is not None and symbolic.all_numbers(value):
            self._folder.numbers(node, value)
            return []
        if value is not None:
            self.facts.symbolic[node.outputs[0].name or ""] = value
        missing = [v.name for v in node.inputs if v is not None and v.name and v.name not in self.facts.values]
        if missing:
            return self._guess(node)
        return self._define(node)

    def _define(self, node: ir.Node) -> list[ir.Node]:
        """Facts from the operator's handler; expands the node where there is none or it refuses."""
        definition = find(op_domain(node), node.op_type, op_version(node, self.facts))
        refusal: Unsupported | None = None
        if definition is not None:
            try:
                facts = self._lower(definition, node)
            except Unsupported as reason:
                refusal = reason
            else:
                if self._folder.fold(node, facts):
                    return []
                for output, fact in zip(node.outputs, facts, strict=False):
                    if fact is not None and output.name:
                        self.facts.values[output.name] = fact
                return []
        elif self._folder.fold(node, self._onnx_facts(node)):
            return []
        try:
            expanded = self._expand(node, refusal is not None)
        except Unsupported as reason:
            expanded, refusal = None, reason
        if expanded is not None:
            return expanded
        if refusal is not None:
            self._unsupported(node, refusal.reason, refusal.nearest)
        else:
            self._unsupported(node, *nearest_form(node, op_domain(node), op_version(node, self.facts)))
        return self._guess(node)

    def _expand(self, node: ir.Node, refused: bool) -> list[ir.Node] | None:
        """Nodes in place of one without a handler, or whose handler refused it; None where there are none."""
        if has_subgraph(node):
            return control.expand(node, self.facts, self._inliner)
        # When a handler gave a reason, it says more than what the function's body may run into.
        return self._inliner.inline(node, functions=False, accept=self._lowers if refused else None)

    def _lowers(self, function: ir.Function) -> bool:
        """Whether all operators of a function's body have handlers."""
        versions = {("" if d == "ai.onnx" else d): v for d, v in function.opset_imports.items()}
        nodes = [n for n in function if n.op_type != "Constant"]
        return all(find(op_domain(n), n.op_type, versions.get(op_domain(n), 1)) for n in nodes)

    def _lower(self, definition: OpDef, node: ir.Node) -> list[ValueFact | None]:
        """What the handler says the outputs are. Raises Unsupported, also for what goes wrong inside it."""
        view = make_node(node, self.facts, self.leaf)
        try:
            result = definition.lower(view)
        except Unsupported:
            raise
        except Exception as error:  # a malformed node must not end in a traceback, nor hide the other problems
            raise Unsupported(f"malformed node? {type(error).__name__}: {error}".split("\n")[0]) from error
        if isinstance(result, Tensor):
            result = [result]
        made = result.outputs if isinstance(result, Custom) else list(result)
        if any(w and (i >= len(made) or made[i] is None) for i, w in enumerate(view.outputs)):
            raise Unsupported("an output that is read is not computed")
        facts = [None if t is None else ValueFact(tuple(t.shape), t.dtype) for t in made]
        for fact in facts:
            self._check_dims(fact)
        if node.meta.get(control.SELECT):
            self._check_select(view)
        return facts

    def _check_dims(self, fact: ValueFact | None) -> None:
        for dim in fact.shape if fact else ():
            if isinstance(dim, int):
                low = dim
            else:
                low = min(at_corner(dim, self.facts.bounds, which) for which in (0, 1))
            if low < 0:
                raise Unsupported(f"dimension {dim_text(dim)} would be {low}", "other --shape or --dim bounds")

    def _check_select(self, view: Node) -> None:
        """The two results of an If that became a Where must have one shape: Where would broadcast."""
        then, other = view.need(1), view.need(2)
        if not same_shape(then.shape, other.shape) or then.dtype != other.dtype:
            shapes = f"{shape_text(then.shape)} and {shape_text(other.shape)}"
            raise Unsupported(f"the branches of an If give {shapes}, chosen at run time", "branches of one shape")

    def leaf(self, name: str) -> Tensor:
        """The value called `name` as a handler reads it."""
        if name not in self._leaves:
            fact = self.facts.values[name]
            constants = self.facts.constants
            data = (lambda: constants[name]) if name in constants else None
            self._leaves[name] = Tensor(fact.shape, fact.dtype, name, data=data)
        return self._leaves[name]

    # ---- problems -------------------------------------------------------------------------------------------------
    def _onnx_facts(self, node: ir.Node) -> list[ValueFact | None]:
        return onnx_facts(node, self.facts)

    def _guess(self, node: ir.Node) -> list[ir.Node]:
        """After an unsupported node: facts from ONNX's inference or the model, so that the rest is still checked."""
        domain, version = op_domain(node), op_version(node, self.facts)
        known = [p for at, p in self._problems if at is node]
        if not known and find(domain, node.op_type, version) is None:
            expanded = None if has_subgraph(node) else self._expand(node, False)
            if expanded is not None:
                return expanded
            self._unsupported(node, *nearest_form(node, domain, version))
        for output, fact in zip(node.outputs, self._onnx_facts(node), strict=False):
            fact = fact or declared_fact(output, self.facts)
            if fact is not None and output.name:
                self.facts.values[output.name] = fact
        return []

    def _unsupported(self, node: ir.Node, reason: str, nearest: str = "") -> None:
        name = node.name or next((v.name for v in node.outputs if v.name), None) or "(unnamed)"
        problem = Problem(name, node.op_type, op_domain(node), op_version(node, self.facts), reason, nearest)
        self._problems.append((node, problem))

    def _report(self, node: ir.Node | None, name: str, op: str, reason: str, nearest: str = "") -> None:
        self._problems.append((node, Problem(name, op, "", self.facts.opsets.get("", 0), reason, nearest)))

    def finish(self, removed: Iterable[ir.Node]) -> None:
        """Checks the outputs against what the model declares, and drops what concerned removed nodes."""
        gone = set(removed)
        for value in self.model.graph.outputs:
            self._check_output(value)
        self.facts.problems = [p for node, p in self._problems if node is None or node not in gone]
        for node in self.model.graph:
            for value in node.outputs:
                if value.name and not wanted(value):
                    value.name = ""  # nobody asked the handler for it, so nothing is known of it
        live = {v.name for v in (*self.model.graph.inputs, *self.model.graph.initializers.values())}
        live |= {v.name for node in self.model.graph for v in node.outputs}
        for name in [n for n in self.facts.values if n not in live]:
            self.facts.forget(name)

    def _check_output(self, value: ir.Value) -> None:
        fact, declared = self.facts.values.get(value.name or ""), dtype_name(value.dtype)
        if fact is None:
            if not self._problems:
                self._report(None, value.name or "", "(output)", f"type {value.type} cannot be computed")
            return
        rank = None if value.shape is None else len(value.shape)
        if declared and declared != fact.dtype:
            self._report(None, value.name or "", "(output)", f"is {fact.dtype}, but the model declares {declared}",
                         "a correct declaration, or none")  # fmt: skip
        if rank is not None and rank != len(fact.shape):
            # exporters get this wrong, and ONNX Runtime only warns: the operators decide
            shape = shape_text(fact.shape)
            self.facts.notes.append(f"output {value.name} is {shape}, though the model declares rank {rank}")
