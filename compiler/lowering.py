"""Fused groups to kernel calls: finds each group's template, or a generic nest, and gives every value a buffer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

import targets.kernels
from compiler.copies import Runs, runs
from compiler.frontend.dims import largest
from compiler.frontend.facts import Facts
from compiler.frontend.nodes import make_node
from compiler.fusion import Group, kind_of, macs_of
from compiler.halves import Halves, half_values, halved
from compiler.ops.registry import Custom, Node, Result, find
from compiler.program import Buffer, Part, Port, Program, Space, Step
from compiler.repeats import Shared, tail_asked
from targets.dtypes import item_size
from targets.gpu import Gpu, cpu_of
from targets.kernels.nest import lower_nest
from targets.kernels.registry import Call, stages_for, templates_for
from targets.kernels.stage import Const, Leaf, Stage, stored_dtype
from targets.kernels.tensor import Index, Tensor, compute, product
from targets.target import Target

assert targets.kernels.__doc__  # importing the package registered the templates


def name_of(value: ir.Value | None) -> str:
    """The name of a value that is there: the front end gives every one its own."""
    assert value is not None
    assert value.name
    return value.name


class Lowering:
    """Turns one graph into a Program."""

    def __init__(
        self, model: ir.Model, facts: Facts, target: Target, tiles: Callable[[Call], dict] | None,
        shared: Shared | None = None, halves: Halves | None = None,
    ) -> None:  # fmt: skip
        self.model, self.facts, self.target = model, facts, target
        self.cpu = cpu_of(target)
        self.tiles = tiles or (lambda call: {})
        self.leaves: dict[str, Tensor] = {}
        self.values: dict[int, str] = {}  # id of a leaf -> the value it stands for
        self.roots: dict[str, str] = {}  # a view -> the value whose bytes it shows
        self.buffers: dict[str, Buffer] = {}
        self.shared = shared or Shared()
        self.weights = self.shared.weights
        self.touched: set[int] = set()  # ids of buffers that some step has used
        self.halves = halves
        self.keep: list[Tensor] = []  # ids in `values` stay valid only as long as the leaves live

    # ---- values and buffers ---------------------------------------------------------------------------------------
    def max_bytes(self, shape: Sequence[Index], dtype: str) -> int:
        """Bytes of a tensor at its largest, or a bound on them where a shape does not grow with its dims alone."""
        size = min(largest(product(shape)), math.prod(largest(d) for d in shape))
        return max(0, size) * item_size(dtype)

    def leaf(self, name: str) -> Tensor:
        """The leaf that stands for a graph value."""
        if name not in self.leaves:
            fact = self.facts.values[name]
            leaf = Tensor(tuple(fact.shape), fact.dtype, name)
            if name in self.facts.constants:
                leaf.data = lambda: np.asarray(self.facts.constants[name])
            if self.halves is not None and self.halves.holds(self.root(name)):
                leaf.stored = "float16"
            self.leaves[name] = leaf
            self.values[id(leaf)] = name
        return self.leaves[name]

    def root(self, name: str) -> str:
        """The value whose bytes `name` shows: itself, unless it is a view."""
        while name in self.roots:
            name = self.roots[name]
        return name

    def buffer(self, leaf: Leaf, scratch: dict[int, Buffer]) -> Buffer:
        """The buffer behind an operand of a kernel."""
        if isinstance(leaf, Const):
            if leaf.key not in self.weights:
                size = int(np.prod(leaf.shape)) * item_size(leaf.dtype)
                self.weights[leaf.key] = Buffer(leaf.name, "weights", leaf.shape, leaf.dtype, size, data=leaf.make)
            return self.weights[leaf.key]
        if isinstance(leaf, Tensor) and leaf.name.startswith("dim:"):
            slot = [v.name for v in self.program.dims].index(leaf.name[4:])
            return Buffer(leaf.name, "dims", (1,), "int64", 8, index=slot)
        if id(leaf) not in self.values:
            if id(leaf) not in scratch:
                size = self.max_bytes(leaf.shape, stored_dtype(leaf))
                scratch[id(leaf)] = Buffer(f"scratch.{leaf.name}", "arena", leaf.shape, leaf.dtype, size)
            return scratch[id(leaf)]
        name = self.root(self.values[id(leaf)])
        if name not in self.buffers:
            held = self.leaf(name)
            dtype, data = stored_dtype(held), partial(halved, held.data) if held.data and held.stored else held.data
            space: Space = "weights" if data else "arena"
            made = Buffer(name, space, held.shape, dtype, self.max_bytes(held.shape, dtype), data=data)
            self.buffers[name] = self.weights.setdefault(f"value {name} {dtype}", made) if data else made
        return self.buffers[name]

    # ---- the graph ------------------------------------------------------------------------------------------------
    def run(self, groups: Sequence[Group]) -> Program:
        """The program of the whole graph. Raises Unsupported for a form that inference let pass and no kernel takes."""
        graph, facts = self.model.graph, self.facts
        inputs = [name_of(v) for v in graph.inputs if v.name not in facts.constants]
        outputs = [name_of(v) for v in graph.outputs]
        known = [v for v in facts.vars.values() if v.name in facts.bounds]
        at_start = [v for v in known if any(v.same_as(d) for n in inputs for d in facts.values[n].shape)]
        later = [v for v in known if not any(v.same_as(s) for s in at_start)]
        ports = [[self.port(name) for name in names] for names in (inputs, outputs)]
        self.program = Program(
            ports[0], ports[1], [], [*at_start, *later], len(at_start), dict(facts.bounds), self.target.alignment
        )
        for group in groups:
            if len(group.nodes) == 1 and kind_of(group.nodes[0], facts) == "view":
                source, shown = group.nodes[0].inputs[0], name_of(group.nodes[0].outputs[0])
                if source is not None and shown not in facts.constants:
                    self.roots[shown] = name_of(source)
        if self.halves is not None:
            self.halves.full |= {self.root(name) for name in (*inputs, *outputs)}
        for i, name in enumerate(inputs):
            fact = facts.values[name]
            self.buffers[name] = Buffer(name, "io", fact.shape, fact.dtype, ports[0][i].bytes, index=i)
        copies = []
        for i, name in enumerate(outputs):
            fact, root = facts.values[name], self.root(name)
            buffer = Buffer(name, "io", fact.shape, fact.dtype, ports[1][i].bytes, index=len(inputs) + i)
            if root in self.buffers or root in facts.constants:
                copies.append((name, buffer))  # an input, a constant or another output handed out once more
            else:
                self.buffers[root] = buffer
        for group in groups:
            if not (len(group.nodes) == 1 and group.nodes[0].outputs[0].name in self.roots):
                self.group(group)
        for name, buffer in copies:
            self.copy(name, buffer)
        return self.program

    def where(self, names: Sequence[str]) -> Target:
        """What runs kernels on those values: the target, but the CPU beside a GPU that lacks one of their types."""
        types = self.target.types if isinstance(self.target, Gpu) else ()
        on_gpu = all(self.facts.values[name].dtype in types for name in names if name in self.facts.values)
        return self.target if on_gpu else self.cpu

    def port(self, name: str) -> Port:
        """The graph's input or output of that name."""
        fact = self.facts.values[name]
        return Port(name, tuple(fact.shape), fact.dtype, self.max_bytes(fact.shape, fact.dtype))

    def copy(self, name: str, buffer: Buffer) -> None:
        """Hands a value out under a second name."""
        source = self.leaf(name)
        target = Tensor(source.shape, source.dtype, f"out.{name}")
        self.keep.append(target)
        self.values[id(target)] = target.name
        self.buffers[target.name] = buffer
        moved = compute(source.shape, source.dtype, source, [source], "copy")
        self.append("copy", "Identity", [name], lower_nest([(moved, target)], self.where([name]), "copy"), 0)

    def group(self, group: Group) -> None:
        """Adds the steps of one group: a template's, a hand-written operator's, or a loop nest's."""
        env: dict[str, Tensor] = {}
        self.called: Call | None = None  # what a template is asked to take
        first = group.nodes[0]
        key = f"{first.domain}.{first.op_type}" if first.domain else first.op_type
        where = self.where([str(v.name) for n in group.nodes for v in (*n.inputs, *n.outputs) if v is not None])
        results = [self.leaf(name) for name in group.outputs]
        stages: list[Stage] | None = None
        macs = 0
        for node in group.nodes:
            made, outcome = self._defined(node, env)
            if isinstance(outcome, Custom) and len(group.nodes) > 1:
                # what is written by hand stores its results itself
                self.group(Group([first], True, [name_of(first.outputs[0])]))
                self.group(Group(group.nodes[1:], False, group.outputs))
                return
            if isinstance(outcome, Custom):
                everything = [self._result(v.name, t) for v, t in zip(node.outputs, outcome.outputs, strict=False)]
                for after, before in outcome.state.items():
                    if name := node.outputs[after].name:
                        self.roots[name] = name_of(node.inputs[before])
                    else:
                        everything[after] = self.leaf(name_of(node.inputs[before]))
                macs = outcome.macs
                call = self._call(key, made, everything, everything)
                stages = self._stages(call, where, by_hand=partial(outcome.emit, self.cpu, everything))
                break
            made_outputs: list[Tensor | None] = [outcome] if isinstance(outcome, Tensor) else list(outcome)
            if node is first:
                macs = sum(macs_of(t) for t in made_outputs if t is not None)
            if node is first and group.anchor and templates_for(key, where):
                stages = self._template(group, key, made, made_outputs, results, where)
                if stages is not None:
                    break
            pairs = zip(node.outputs, made_outputs, strict=False)
            env.update({v.name: t for v, t in pairs if v.name and t is not None})
        if stages is None:
            # what a later node reads of an earlier one is counted with the node that it ends in
            macs = max((macs_of(env[name]) for name in group.outputs), default=macs)
            stages = lower_nest([(env[name], self.leaf(name)) for name in group.outputs], where, _name(group))
        label = first.name or next(v.name for v in first.outputs if v.name)
        before = len(self.program.steps)
        self.append(str(label), first.op_type, [n.name or n.op_type for n in group.nodes], stages, macs)
        for step in self.program.steps[before:]:
            step.call = self.called
        if len(group.nodes) == 1 and (found := runs(first, self.facts)):
            self._note_copies(found, self.program.steps[-len(stages) :] if stages else [])

    def _note_copies(self, found: Runs, steps: Sequence[Step]) -> None:
        """Tells the steps of an operator that only moves bytes which of their buffers are parts of which."""
        parts = [(self.root(part), self.root(whole), at) for part, (whole, at) in found.items()]
        parts = parts if self.halves is None else self.halves.parts(parts)
        for step in steps:
            mine = {id(buffer) for buffer in step.buffers}
            pairs = [(self.buffers[p], self.buffers[w], at) for p, w, at in parts if {p, w} <= self.buffers.keys()]
            step.parts = [Part(*pair) for pair in pairs if {id(pair[0]), id(pair[1])} <= mine]
            if len(step.parts) != len(step.buffers) - 1 or any(p.at % self.target.alignment for p in step.parts):
                step.parts = []

    def _defined(self, node: ir.Node, env: Mapping[str, Tensor]) -> tuple[Node, Result]:
        """A node and what its operator says it computes, from values of this group (`env`) and leaves."""
        made = make_node(node, self.facts, lambda name: env.get(name) or self.leaf(name))
        definition = find(node.domain, node.op_type, made.version)
        assert definition is not None, f"{node.op_type} passed inference without a definition"
        return made, definition.lower(made)

    def _result(self, name: str | None, like: Tensor) -> Tensor:
        """The leaf of an output; a scratch one where the graph does not want it."""
        if name and name in self.facts.values:
            return self.leaf(name)
        return like

    def _call(self, key: str, made: Node, outputs: list[Tensor], results: list[Tensor]) -> Call:
        call = Call(key, made.attrs, made.inputs, outputs, outputs[0], results)
        call.config = self.tiles(call)
        self.called = call
        return call

    def _template(
        self, group: Group, key: str, made: Node, shapes: list[Tensor | None], results: list[Tensor], where: Target
    ) -> list[Stage] | None:
        """The anchor's template with the rest of the group as its tail."""
        anchor, tail = group.nodes[0], group.nodes[1:]
        stand_ins = [Tensor(t.shape, t.dtype, f"anchor{i}") for i, t in enumerate(shapes) if t is not None]
        everything = [self._result(v.name, t) for v, t in zip(anchor.outputs, stand_ins, strict=False)]
        call = self._call(key, made, stand_ins, results if tail else everything)
        env = {name_of(anchor.outputs[0]): stand_ins[0]}
        for node in tail:
            _, outcome = self._defined(node, env)
            assert not isinstance(outcome, Custom), f"{node.op_type} cannot follow an anchor"
            first = outcome if isinstance(outcome, Tensor) else outcome[0]
            assert first is not None, f"{node.op_type} gave no result"
            env[name_of(node.outputs[0])] = first
        if tail:
            call.final = env[name_of(tail[-1].outputs[0])]
        return self._stages(call, where, *tail_asked(group.nodes, self.facts, self.leaf))

    def _stages(
        self, call: Call, where: Target, tail: str = "", others: Sequence[Tensor] = (),
        by_hand: Callable[[], list[Stage] | None] = lambda: None,
    ) -> list[Stage] | None:  # fmt: skip
        return self.shared.repeats.stages(call, where, tail, others, lambda: stages_for(call, where) or by_hand())

    def _written(self, buffer: Buffer) -> bool:
        """Whether the first kernel to use this buffer fills it."""
        return buffer.space == "arena" or buffer.space == "io" and buffer.index >= len(self.program.inputs)

    def append(self, name: str, op: str, nodes: list[str], stages: list[Stage], macs: int) -> None:
        """Adds a group's stages as steps; its scratch lives from its first to its last use."""
        scratch: dict[int, Buffer] = {}
        for i, stage in enumerate(stages):
            buffers = [self.buffer(leaf, scratch) for leaf in stage.operands]
            writes = {k for k, b in enumerate(buffers) if id(b) not in self.touched and self._written(b)}
            self.touched |= {id(b) for b in buffers}
            self.keep += [leaf for leaf in stage.operands if isinstance(leaf, Tensor)]
            label = name if len(stages) == 1 else f"{name}.{i}"
            last = i == len(stages) - 1
            self.program.steps.append(Step(label, op, nodes, stage, buffers, writes, macs if last else 0))


def _name(group: Group) -> str:
    names = [n.op_type.lower() for n in group.nodes]
    return "_".join(names[:4]) + (f"_{len(names)}" if len(names) > 4 else "")


def lower_graph(
    model: ir.Model, facts: Facts, target: Target, groups: Sequence[Group],
    tiles: Callable[[Call], dict] | None = None, shared: Shared | None = None,
) -> Program:  # fmt: skip
    """The program of a graph whose every node passed inference."""
    halves = half_values(facts, target, lambda: Lowering(model, facts, target, tiles).run(groups))
    return Lowering(model, facts, target, tiles, shared, halves).run(groups)
