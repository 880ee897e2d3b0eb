"""Is the model a graph at all? Names defined once, used after they are defined, no cycles, no recursive functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from targets.errors import EdgertError, UnsupportedModel

OLDEST = 7  # opset: the first with today's broadcasting


def check_versions(model: onnx.ModelProto) -> None:
    """Raises UnsupportedModel for an IR version or opset this compiler does not know, EdgertError for none at all."""
    if model.ir_version <= 0 or not model.HasField("graph"):
        raise EdgertError("not an ONNX model, or cut: it has no IR version or no graph")
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedModel(
            f"the model's IR version is {model.ir_version}, this compiler knows up to {onnx.IR_VERSION}; "
            "export it with an older version"
        )
    if any(isinstance(text, bytes) for f in model.functions for text in (f.name, f.domain, f.overload, *f.input)):
        raise EdgertError("a function's name is not UTF-8; the model is damaged")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if any(isinstance(domain, bytes) for domain in versions):
        raise EdgertError("an opset's domain is not UTF-8; the model is damaged")
    opset = versions.get("", versions.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    used = {node.domain for node in _all_nodes(model.graph.node)} - {"", "ai.onnx"}
    if not used.issubset(versions):
        raise EdgertError(f"the model imports no opset of domain {min(used - set(versions))!r}; export it again")
    if opset is None:
        if any(node.domain in ("", "ai.onnx") for node in model.graph.node):
            raise EdgertError("the model imports no opset; export it again")
    elif not OLDEST <= opset <= newest:
        raise UnsupportedModel(
            f"the model's opset is {opset}, supported are {OLDEST} to {newest}; convert it with onnx.version_converter"
        )


def check_model(model: onnx.ModelProto) -> bool:
    """Raises EdgertError unless graph and functions are well-formed. Returns whether all nodes stand in order."""
    if not model.graph.output:
        raise EdgertError("the model's graph has no outputs")
    ordered = check_graph(model.graph, set())
    names: set[tuple[str, str, str]] = set()
    for function in model.functions:
        ident = (function.domain, function.name, function.overload)
        if ident in names:
            raise EdgertError(f"function {function.domain}.{function.name} is defined twice")
        names.add(ident)
        ordered &= _check_nodes(function.node, set(function.input), function.output, f"function {function.name}")
    _check_recursion(model)
    _check_signatures(model)
    return ordered


def _check_signatures(model: onnx.ModelProto) -> None:
    """Raises EdgertError for a node with too few or many inputs, or with attributes its operator does not have."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    local = {(f.domain, f.name) for f in model.functions}
    for node in _all_nodes(model.graph.node):
        version = context.opset_imports.get(node.domain)
        if version is None or (node.domain, node.op_type) in local:
            continue
        if node.op_type == "Constant" or any(True for _ in _subgraphs(node)):
            continue  # onnx would look for external data and outer values; both are checked here already
        try:
            if onnx.defs.get_schema(node.op_type, version, node.domain).deprecated:
                continue
            onnx.checker.check_node(node, context)
        except onnx.defs.SchemaError:
            continue  # no such operator: reported with all other unsupported ones
        except onnx.checker.ValidationError as error:
            raise EdgertError(f"node {label(node)}: {str(error).splitlines()[0]}") from error


def check_graph(graph: onnx.GraphProto, outer: set[str]) -> bool:
    """Checks one graph whose nodes may also read `outer` values. Returns whether its nodes stand in order."""
    inputs = [v.name for v in graph.input]
    constants = [t.name for t in graph.initializer]
    values = [*graph.input, *graph.output, *graph.value_info]
    texts = [*inputs, *constants, *(v.name for v in values)]
    texts += [d.dim_param for v in values for d in v.type.tensor_type.shape.dim]
    if any(isinstance(text, bytes) for text in texts):
        raise EdgertError("a value's name is not UTF-8; the model is damaged")
    if graph.sparse_initializer:
        raise UnsupportedModel("sparse initializers are not supported; store the weights as dense tensors")
    for kind, names in (("input", inputs), ("initializer", constants)):
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise EdgertError(f"two {kind}s are called {twice!r}; names must be unique")
        if "" in names:
            raise EdgertError(f"an {kind} has no name")
    return _check_nodes(graph.node, set(inputs) | set(constants), [v.name for v in graph.output], "graph", outer)


def _check_nodes(
    nodes: Sequence[onnx.NodeProto], given: set[str], outputs: Sequence[str], what: str, outer: set[str] | None = None
) -> bool:
    made: dict[str, int] = {}
    for i, node in enumerate(nodes):
        _check_text(node)
        for name in filter(None, node.output):
            if name in made or name in given:
                raise EdgertError(f"value {name!r} is defined twice, also by node {label(node)}; names must be unique")
            made[name] = i
    visible = given | (outer or set())
    reads: list[set[int]] = []
    ordered = True
    for i, node in enumerate(nodes):
        needs: set[int] = set()
        for name in _names_read(node):
            if name in made:
                needs.add(made[name])
            elif name not in visible:
                raise EdgertError(f"node {label(node)} reads {name!r}, which nothing in the {what} defines")
        for graph in _subgraphs(node):
            ordered &= check_graph(graph, visible | set(made))
        reads.append(needs)
        ordered &= all(j < i for j in needs)
    for name in outputs:
        if name not in made and name not in visible:
            raise EdgertError(f"output {name!r} of the {what} is not computed by any node")
    if not ordered:
        _check_cycle(nodes, reads, what)
    return ordered


def _check_text(node: onnx.NodeProto) -> None:
    """Protobuf hands text that is not UTF-8 out as bytes; no name in a real model is."""
    texts = [node.op_type, node.domain, node.name, node.overload, *node.input, *node.output]
    texts += [text for attr in node.attribute for text in (attr.name, attr.ref_attr_name)]
    if any(isinstance(text, bytes) for text in texts):
        raise EdgertError(f"a node with {len(node.input)} inputs has a name that is not UTF-8; the model is damaged")
    if not node.op_type:
        raise EdgertError(f"node {label(node)} has no operator; the model is damaged")


def _names_read(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its subgraphs' outer values included."""
    yield from filter(None, node.input)
    for graph in _subgraphs(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        for inner in graph.node:
            yield from (name for name in _names_read(inner) if name not in own)
        yield from (v.name for v in graph.output if v.name not in own)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attr in node.attribute:
        if attr.type == onnx.AttributeProto.GRAPH:
            yield attr.g
        elif attr.type == onnx.AttributeProto.GRAPHS:
            yield from attr.graphs


def _check_cycle(nodes: Sequence[onnx.NodeProto], reads: Sequence[set[int]], what: str) -> None:
    """Kahn's algorithm: what is left over lies on or behind a cycle."""
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = [len(needs) for needs in reads]
    for i, needs in enumerate(reads):
        for j in needs:
            readers[j].append(i)
    ready = [i for i, count in enumerate(waiting) if not count]
    for i in ready:
        for j in readers[i]:
            waiting[j] -= 1
            if not waiting[j]:
                ready.append(j)
    left = [i for i, count in enumerate(waiting) if count]
    if left:
        shown = ", ".join(label(nodes[i]) for i in left[:3]) + (", ..." if len(left) > 3 else "")
        raise EdgertError(f"the {what} has a cycle, at or before node {shown}; ONNX graphs must have none")


def _check_recursion(model: onnx.ModelProto) -> None:
    calls: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for function in model.functions:
        made = calls.setdefault((function.domain, function.name), set())
        made.update((node.domain, node.op_type) for node in _all_nodes(function.node))
    state: dict[tuple[str, str], bool] = {}  # True: on the path being walked; False: done
    for start in calls:
        if start in state:
            continue
        state[start] = True
        path = [(start, iter(calls[start]))]
        while path:
            current, rest = path[-1]
            callee = next((c for c in rest if c in calls and state.get(c) is not False), None)
            if callee is None:
                state[current] = False
                path.pop()
            elif state.get(callee):
                raise EdgertError(f"function {callee[0]}.{callee[1]} calls itself; ONNX functions must not")
            else:
                state[callee] = True
                path.append((callee, iter(calls[callee])))


def _all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _all_nodes(graph.node)


def label(node: onnx.NodeProto) -> str:
    """How a message names a node: its own name, or its operator and first output."""
    return node.name or f"{node.op_type} -> {next(iter(node.output), '')}"
