"""Mix a float32 model with quantized versions of itself, section by section.

Rewriters keep the names of the values between layers. Two models agree on the values both make under one name; what
a value is made of, back to the nearest such values, is its section, once in float32 and once as each scheme writes
it. Any mix of sections is a model again: that is how the harm of one layer alone is measured, and how `auto` puts
several schemes into one model. It knows nothing of schemes, and needs no second calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from quant.graph import Graph, used_by

CLAMPS = ("Relu", "Clip")
FLOAT = "float32"  # the name of the model given as such


@dataclass(frozen=True)
class Section:
    """What one value is made of: float32 nodes by name, the constants they take; and of each quantized version."""

    tensor: str
    reads: frozenset[str]  # the common values that it is made of in float32
    made_of: Mapping[str, tuple[onnx.NodeProto, ...]] = field(repr=False)  # by version, in no order


class Splice:
    """A float32 model and quantized versions of it by name (none of them called `float32`)."""

    def __init__(self, model: onnx.ModelProto, versions: Mapping[str, onnx.ModelProto]) -> None:
        self.graphs = {name: Graph(_copy(version)) for name, version in versions.items()} | {FLOAT: Graph(model)}
        first = self.graphs[FLOAT]
        for name, graph in self.graphs.items():
            if name != FLOAT:
                _restore_clamps(first, graph)
        self._common = set(first.inputs) | set(first.producer)
        for graph in self.graphs.values():
            self._common &= set(graph.inputs) | set(graph.producer)
        order = [name for node in first.nodes for name in node.output if name in self._common]
        self.sections = [self._section(name) for name in order]

    def whole(self, version: str) -> onnx.ModelProto:
        """One version throughout, as a model in which every section's value is what it is in float32."""
        return self.mix(dict.fromkeys((section.tensor for section in self.sections), version))

    def mix(self, choice: Mapping[str, str]) -> onnx.ModelProto:
        """The model whose section for each tensor in `choice` is of the version named there, all others float32."""
        chosen = {section.tensor: choice.get(section.tensor, FLOAT) for section in self.sections}
        mixed = onnx.ModelProto()
        mixed.CopyFrom(self._frame())
        taken: dict[tuple[str, int], onnx.NodeProto] = {}
        for section in self.sections:
            version = chosen[section.tensor]
            for node in section.made_of[version]:
                taken.setdefault((version, id(node)), node)
        constants: dict[str, onnx.TensorProto] = {}
        names: set[str] = set()
        for (version, _), node in taken.items():
            graph = self.graphs[version]
            copy = mixed.graph.node.add()
            copy.CopyFrom(node)
            copy.output[:] = [self._named(name, version, chosen) for name in node.output]
            _rename(copy, {name: self._named(name, version, chosen, read=True) for name in used_by(node)})
            if node.name in names:
                copy.name = f"{version}/{node.name}"
            names.add(copy.name)
            for name in used_by(node):
                if name in graph.initializers:
                    constants[self._named(name, version, chosen, read=True)] = graph.initializers[name]
        for name, tensor in constants.items():
            mixed.graph.initializer.add().CopyFrom(tensor)
            mixed.graph.initializer[-1].name = name
        return Graph(mixed).finish()

    def _frame(self) -> onnx.ModelProto:
        """The float32 model without nodes and constants, with every opset that a version imports."""
        frame = onnx.ModelProto()
        model = self.graphs[FLOAT].model
        for name, _ in model.ListFields():
            if name.name not in ("graph", "opset_import"):
                value = getattr(model, name.name)
                if name.is_repeated:
                    getattr(frame, name.name).extend(value)
                else:
                    setattr(frame, name.name, value)
        frame.graph.name = model.graph.name
        frame.graph.input.extend(model.graph.input)
        frame.graph.output.extend(model.graph.output)
        frame.graph.value_info.extend(value for value in model.graph.value_info if value.name in self._common)
        opsets: dict[str, int] = {}
        for graph in self.graphs.values():
            for entry in graph.model.opset_import:
                opsets[entry.domain] = max(opsets.get(entry.domain, 0), entry.version)
            frame.ir_version = max(frame.ir_version, graph.model.ir_version)
        frame.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items())
        return frame

    def _section(self, tensor: str) -> Section:
        made_of = {version: self._cone(graph, tensor) for version, graph in self.graphs.items()}
        reads = {name for node in made_of[FLOAT] for name in used_by(node) if name in self._common}
        return Section(tensor, frozenset(reads), made_of)

    def _cone(self, graph: Graph, tensor: str) -> tuple[onnx.NodeProto, ...]:
        """The nodes that make `tensor` out of common values and constants."""
        found: dict[int, onnx.NodeProto] = {}
        stack = [graph.producer[tensor]]
        while stack:
            node = stack.pop()
            if id(node) not in found:
                found[id(node)] = node
                before = [name for name in used_by(node) if name not in self._common and name in graph.producer]
                stack.extend(graph.producer[name] for name in before)
        return tuple(found.values())

    def _named(self, name: str, version: str, chosen: Mapping[str, str], read: bool = False) -> str:
        """What a version's value is called in the mix: values that are common keep their name where they are read,
        and where the version chosen for them makes them; all that is inside a version gets its name before."""
        if not name or version == FLOAT and name not in self._common:
            return name
        if name in self._common and (read or chosen.get(name) == version):
            return name
        if name in self.graphs[FLOAT].initializers and self._same_constant(name, version):
            return name
        return f"{version}/{name}"

    def _same_constant(self, name: str, version: str) -> bool:
        """Whether a constant is in a version what it is in the float32 model."""
        other = self.graphs[version].initializers.get(name)
        return other is not None and other == self.graphs[FLOAT].initializers[name]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _restore_clamps(reference: Graph, graph: Graph) -> None:
    """Put every Relu and Clip back that static quantization left to the limits of the codes (in place).

    There a value of the clamp's name is what comes before the clamp, so it would not be the same value in all versions.
    The codes' limits lie within the clamp's, so that it changes nothing.
    """
    for value, node in reference.producer.items():
        maker = graph.producer.get(value)
        if node.op_type not in CLAMPS or maker is None:
            continue
        if maker.op_type in (node.op_type, "DequantizeLinear"):
            continue
        before = graph.rename_output(maker, value, f"{value}_unclamped")
        for name in node.input[1:]:
            if name and name not in graph.initializers:
                graph.proto.initializer.append(reference.initializers[name])
                graph.initializers[name] = graph.proto.initializer[-1]
        clamp = graph.proto.node.add()
        clamp.CopyFrom(node)
        clamp.input[0] = before
        graph.index()


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give the values that `node` takes, in its inner graphs too, other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                _rename(inner, names)
