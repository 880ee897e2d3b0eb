"""Replaces a node by the body of the function it calls: the model's own, or the one ONNX defines the operator with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from targets.errors import EdgertError

from .facts import Facts
from .nodes import op_domain, wanted
from .schema_functions import schema_function

MAX_NODES = 500_000  # a few nested functions, each calling the next twice, would otherwise fill any memory
CHAIN = "edgert.inlined_from"  # meta key: the operators whose bodies a node came from; none is expanded in itself
Id = tuple[str, str, str]


class Inliner:
    """Inlines calls in one model. Keeps value and node names unique."""

    def __init__(self, model: ir.Model, facts: Facts) -> None:
        self._model, self._facts = model, facts
        self._used = names_in(model.graph)
        self._count = itertools.count()
        self.created = 0

    def inline(
        self,
        node: ir.Node,
        functions: bool = True,
        schemas: bool = True,
        accept: Callable[[ir.Function], bool] | None = None,
    ) -> list[ir.Node] | None:
        """Puts the body of the function `node` calls in its place. Returns the new nodes.

        None, and nothing changed, when there is none (of the kinds asked for) or `accept` does not like it.
        """
        ident: Id = (op_domain(node), node.op_type, node.overload)
        chain: tuple[Id, ...] = node.meta.get(CHAIN, ())
        function = self._model.functions.get(ident) if functions else None
        if function is None and schemas and ident not in chain:
            function = schema_function(node, self._facts)
        if function is None or node.graph is None or (accept is not None and not accept(function)):
            return None
        if len(node.inputs) > len(function.inputs) or any(wanted(v) for v in node.outputs[len(function.outputs) :]):
            raise EdgertError(f"node {node.name}: function {ident[1]} has fewer inputs or outputs than the call")
        if ident in chain:
            raise EdgertError(f"function {ident[0]}.{ident[1]} calls itself; ONNX does not allow recursive functions")
        return self._instantiate(node, function, (*chain, ident))

    def _instantiate(self, node: ir.Node, function: ir.Function, chain: tuple[Id, ...]) -> list[ir.Node]:
        graph = node.graph
        assert graph is not None
        given = [*node.inputs, *[None] * (len(function.inputs) - len(node.inputs))]
        values: dict[ir.Value, ir.Value | None] = dict(zip(function.inputs, given, strict=False))
        attrs = {name: a for name, a in function.attributes.items() if a.value is not None} | dict(node.attributes)
        copier = Copier(self, attrs, chain, dict(function.opset_imports), node.name or node.op_type)
        made = copier.nodes(function, values)
        made += self.replace_outputs(node, [values.get(v) for v in function.outputs], made)
        graph.insert_before(node, made)
        graph.remove(node, safe=True)
        return made

    def replace_outputs(
        self, node: ir.Node, values: Sequence[ir.Value | None], made: Sequence[ir.Node]
    ) -> list[ir.Node]:
        """Lets `values`, outputs of the nodes `made`, stand for the node's outputs, under these' names.

        Returns Identity nodes for values that come from elsewhere (an input handed through) or stand for two outputs.
        """
        own = {id(v) for n in made for v in n.outputs}
        copies: list[ir.Node] = []
        for outer, inner in zip(node.outputs, values, strict=False):
            if inner is None:
                continue
            if id(inner) not in own:
                copy = ir.Node("", "Identity", [inner], name=self.name("identity"))
                copy.outputs[0].name = self.name(f"{inner.name}_copy")
                copies.append(copy)
                inner = copy.outputs[0]
            own.discard(id(inner))
            _take_over(outer, inner)
        return copies

    def name(self, wish: str) -> str:
        """A name nobody in the model has."""
        self.created += 1
        if self.created > MAX_NODES:
            raise EdgertError(f"inlining the model's functions gives over {MAX_NODES:,} values; simplify the model")
        name = wish
        while name in self._used:
            name = f"{wish}_{next(self._count)}"
        self._used.add(name)
        return name


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Lets `new` stand wherever `old` stood, under its name."""
    if old.name:
        name, old.name = old.name, None
        new.name = name
    if old.type is not None:
        new.type = old.type
    if old.shape is not None:
        new.shape = old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)


class Copier:
    """Copies nodes with other values, attributes and names. Subgraphs are copied too."""

    def __init__(
        self, inliner: Inliner, attrs: Mapping[str, ir.Attr], chain: tuple[Id, ...], opsets: dict[str, int], prefix: str
    ) -> None:
        self._inliner, self._attrs, self._chain, self._opsets, self._prefix = inliner, attrs, chain, opsets, prefix

    def nodes(self, source: Iterable[ir.Node], values: dict[ir.Value, ir.Value | None]) -> list[ir.Node]:
        """Copies of `source`; `values` maps old values to new ones and grows by the outputs."""
        made = []
        for node in source:
            inputs = [None if v is None else values.get(v, v) for v in node.inputs]
            copied = (self._attr(a, values) for a in node.attributes.values())
            attributes = [a for a in copied if a is not None]
            version = node.version or self._opsets.get(op_domain(node), self._opsets.get(node.domain))
            copy = ir.Node(
                node.domain, node.op_type, inputs, attributes, overload=node.overload, version=version,
                num_outputs=len(node.outputs), name=self._inliner.name(f"{self._prefix}/{node.name or node.op_type}"),
            )  # fmt: skip
            copy.meta[CHAIN] = self._chain
            for old, new in zip(node.outputs, copy.outputs, strict=True):
                new.name = self._inliner.name(f"{self._prefix}/{old.name}") if old.name else ""
                new.type, new.shape = old.type, old.shape
                values[old] = new
            made.append(copy)
        return made

    def _attr(self, attr: ir.Attr, values: dict[ir.Value, ir.Value | None]) -> ir.Attr | None:
        if attr.is_ref():
            given = self._attrs.get(attr.ref_attr_name or "")
            return None if given is None else ir.Attr(attr.name, given.type, given.value)
        if attr.type == ir.AttributeType.GRAPH:
            return ir.AttrGraph(attr.name, self._graph(attr.as_graph(), values))
        if attr.type == ir.AttributeType.GRAPHS:
            return ir.AttrGraphs(attr.name, [self._graph(g, values) for g in attr.as_graphs()])
        return attr

    def _graph(self, graph: ir.Graph, outer: dict[ir.Value, ir.Value | None]) -> ir.Graph:
        values = dict(outer)
        for value in [*graph.inputs, *graph.initializers.values()]:
            name = self._inliner.name(f"{self._prefix}/{value.name}")
            values[value] = ir.Value(name=name, type=value.type, shape=value.shape, const_value=value.const_value)
        made = self.nodes(graph, values)
        return ir.Graph(
            [_value(values[v]) for v in graph.inputs],
            [_value(values.get(v, v)) for v in graph.outputs],
            nodes=made,
            initializers=[_value(values[v]) for v in graph.initializers.values()],
            opset_imports=dict(graph.opset_imports),
            name=graph.name,
        )


def _value(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def names_in(graph: ir.Graph) -> set[str]:
    """All value and node names of a graph and its subgraphs."""
    names: set[str] = set()
    for part in (graph, *graph.subgraphs()):
        names.update(v.name for v in (*part.inputs, *part.initializers.values()) if v.name)
        for node in part:
            names.update(v.name for v in node.outputs if v.name)
            names.update(filter(None, [node.name]))
    return names
