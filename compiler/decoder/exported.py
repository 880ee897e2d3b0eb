"""Decoders exported to ONNX in the layout of Hugging Face's optimum, as graphs with a cache in place.

    input_ids [1, seq], attention_mask [1, past + seq], position_ids [1, seq],
    past_key_values.N.key and .value [1, groups, past, head_dim] -> logits [1, seq, vocab], present.N.key and .value

Such a graph copies its whole past at every token. Here the nodes between each layer's queries, new keys and values and
the attended values become one CachedAttention (graph.py has its inputs), which reads the past where it lies; keys are
turned to their positions before they come to it. All other nodes stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compiler.decoder.attention_found import Attention, find
from compiler.frontend import load, read_model
from compiler.passes.edit import EDGERT
from targets.errors import UnsupportedModel
from targets.kernels.cached_attention_formats import FORMATS

PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
GIVEN = ("input_ids", "attention_mask", "position_ids")
CONTEXT = -1  # stands for the symbolic dimension
OPSET = {EDGERT: 1}


@dataclass(frozen=True)
class Exported:
    """What the model's inputs and outputs say of it."""

    path: Path
    layers: int
    groups: int
    head_dim: int
    vocab: int


def recognise(path: Path) -> Exported | None:
    """The model at `path` if it has this layout. Raises EdgertError where it is no model, UnsupportedModel for one of
    the layout with something in it that cannot be compiled."""
    graph = read_model(path).graph
    inputs = {str(v.name): v for v in graph.inputs}
    pasts = {match.groups(): value for name, value in inputs.items() if (match := PAST.fullmatch(name))}
    layers = len(pasts) // 2
    outputs = {str(v.name): v for v in graph.outputs}
    if "input_ids" not in inputs or "logits" not in outputs or not layers:
        return None
    names = {f"present.{n}.{kind}" for n in range(layers) for kind in ("key", "value")}
    strange = [name for name in inputs if name not in GIVEN and not PAST.fullmatch(name)]
    faults = [f"the input {name}" for name in strange]
    faults += [f"no output {name}" for name in sorted(names - outputs.keys())]
    if "position_ids" not in inputs:
        faults.append("no input position_ids")
    shape = pasts.get(("0", "key"), inputs["input_ids"]).shape
    sizes = [] if shape is None else [shape[i] for i in (1, 3) if len(shape) == 4]
    width = outputs["logits"].shape
    vocab = width[-1] if width is not None else None
    if len(sizes) != 2 or not all(isinstance(n, int) for n in (*sizes, vocab)):
        faults.append("unknown numbers of heads, of values in a head, or of tokens")
    if any(value.dtype != ir.DataType.FLOAT for value in pasts.values()):
        faults.append("keys and values that are not float32")
    if faults:
        raise UnsupportedModel(f"{path.name}: a decoder with past key values that has {'; '.join(faults)}")
    return Exported(path, layers, int(sizes[0]), int(sizes[1]), int(vocab))  # type: ignore[arg-type]


def attentions(exported: Exported) -> list[Attention]:
    """Where each layer attends. Raises UnsupportedModel naming what is not understood."""
    return find(read_model(exported.path).graph, exported)


def head_count(exported: Exported, query: str) -> int:
    """The heads of the value `query`, [1, heads, seq, head_dim], by its inferred shape. Raises UnsupportedModel."""
    model = read_model(exported.path)
    model.graph.outputs[:] = [v for node in model.graph for v in node.outputs if v.name == query]
    RemoveUnusedNodesPass()(model)
    model.graph.inputs[:] = [v for v in model.graph.inputs if v.uses()]
    shape = load(model, open_dims=(1, 8))[1].values[query].shape
    if len(shape) != 4 or not isinstance(shape[1], int) or shape[1] % exported.groups:
        raise UnsupportedModel(f"{exported.path.name}: queries {query} are not [1, heads, seq, head_dim]")
    return shape[1]


def to_graph(exported: Exported, windows: list[int | None], heads: int, cache: str = "f16") -> ir.Model:
    """The graph of compiler.decoder.graph, made of this model's nodes. windows: of each layer, as the masks have them.

    Raises UnsupportedModel naming what is not understood.
    """
    model = read_model(exported.path)
    graph = model.graph
    model.opset_imports.update(OPSET)
    found = find(graph, exported)
    edit = _Edit(graph, exported, heads, cache)
    for n, (attention, window) in enumerate(zip(found, windows, strict=True)):
        edit.attend(n, attention, window)
    old = {str(v.name): v for v in graph.inputs}
    for name, ours in (("input_ids", "ids"), ("position_ids", "positions")):
        old[name].replace_all_uses_with(edit.op("Reshape", [edit.inputs[ours], edit.const("row", [1, -1])]))
    edit.logits()
    graph.inputs[:] = list(edit.inputs.values())
    graph.insert_before(graph[0], edit.first)
    RemoveUnusedNodesPass()(model)
    left = sorted(name for name, value in old.items() if value.uses())
    if left:
        raise UnsupportedModel(f"{exported.path.name}: uses {', '.join(left)} for more than attention")
    return model


class _Edit:
    """New values in the graph of a model. `first`: nodes that go to its beginning."""

    def __init__(self, graph: ir.Graph, exported: Exported, heads: int, cache: str) -> None:
        self.graph, self.exported, self.heads, self.cache = graph, exported, heads, cache
        self.first: list[ir.Node] = []
        e = exported
        parts = FORMATS[cache].shapes(1, e.groups, CONTEXT, e.head_dim)
        self.caches = [[f"cache.{i}{f'.{n}' if n else ''}" for n in range(len(parts))] for i in range(e.layers)]
        self.inputs = {
            "ids": _value("ids", ir.DataType.INT64, ["seq"]),
            "positions": _value("positions", ir.DataType.INT64, ["seq"]),
            "seen": _value("seen", ir.DataType.UINT8, ["seq", "seq"]),
            "past": _value("past", ir.DataType.INT64, [1]),
            "rows": _value("rows", ir.DataType.INT64, ["want"]),
        }
        if FORMATS[cache].folds:
            self.inputs["folded"] = _value("folded", ir.DataType.INT64, [2])
        for names in self.caches:
            for name, (shape, dtype) in zip(names, parts, strict=True):
                dims = ["context" if n is CONTEXT else n for n in shape]
                self.inputs[name] = _value(name, ir.DataType.from_numpy(np.dtype(dtype)), dims)
        for value in [*graph.initializers.values(), *(v for node in graph for v in node.outputs)]:
            if value.name in self.inputs:
                value.name = f"given.{value.name}"

    def op(self, kind: str, inputs: list[ir.Value], before: ir.Node | None = None, **attributes: object) -> ir.Value:
        node = ir.node(kind, inputs, attributes)  # type: ignore[arg-type]
        return self._placed(node, before)

    def _placed(self, node: ir.Node, before: ir.Node | None) -> ir.Value:
        node.name = f"edgert.{node.op_type}.{len(self.first) if before is None else len(self.graph)}"
        for i, value in enumerate(node.outputs):
            value.name = f"{node.name}.{i}"
        if before is None:
            self.first.append(node)
        else:
            self.graph.insert_before(before, node)
        return node.outputs[0]

    def const(self, name: str, values: object, dtype: type = np.int64) -> ir.Value:
        name = f"edgert.{name}"
        if name not in self.graph.initializers:
            array: np.ndarray = np.array(values, dtype)
            tensor = ir.tensor(array, name=name)
            kind = ir.TensorType(tensor.dtype)
            value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
            self.graph.initializers[name] = value
        return self.graph.initializers[name]

    def attend(self, n: int, found: Attention, window: int | None) -> None:
        """CachedAttention instead of the nodes of layer n."""
        e, at = self.exported, found.context

        def rows(x: ir.Value, heads: int) -> ir.Value:
            swapped = self.op("Transpose", [x], at, perm=[0, 2, 1, 3])
            return self.op("Reshape", [swapped, self.const(f"rows.{heads}", [-1, heads * e.head_dim])], at)

        flat = [rows(found.query, self.heads), rows(found.key, e.groups), rows(found.value, e.groups)]
        first, *others = (self.inputs[name] for name in self.caches[n])
        taken = [self.inputs[name] for name in ("past", "positions", "seen")]
        still = self.const("cos", [[1.0]], np.float32), self.const("sin", [[0.0]], np.float32)  # turned already
        attributes: dict[str, Any] = {
            "layer": 0, "heads": self.heads, "groups": e.groups, "interleaved": 0, "scale": found.scale,
            "window": window or 0, "format": self.cache,
        }  # fmt: skip
        folded = [self.inputs["folded"]] if "folded" in self.inputs else []
        inputs = [*flat, first, *taken, *still, *others, *folded]
        node = ir.node("CachedAttention", inputs, attributes, domain=EDGERT, num_outputs=2 + len(others))
        attended = self._placed(node, at)
        shape = self.const("heads", [1, -1, self.heads, e.head_dim])
        apart = self.op("Transpose", [self.op("Reshape", [attended, shape], at)], at, perm=[0, 2, 1, 3])
        at.outputs[0].replace_all_uses_with(apart)

    def logits(self) -> None:
        """Only the wanted rows': taken before the last product where there is one."""
        old = next(v for v in self.graph.outputs if v.name == "logits")
        last = old.producer()
        assert last is not None
        if last.op_type == "MatMul":
            x = last.inputs[0]
            assert x is not None
            last.replace_input_with(0, self.op("Gather", [x, self.inputs["rows"]], last, axis=1))
            whole = last.outputs[0]
        else:
            whole = self._appended("Gather", [old, self.inputs["rows"]], axis=1)
        old.name = "edgert.scores"
        old.shape = None
        result = self._appended("Reshape", [whole, self.const("tokens", [-1, self.exported.vocab])])
        result.name, result.dtype = "logits", ir.DataType.FLOAT
        result.shape = ir.Shape(["want", self.exported.vocab])
        self.graph.outputs[:] = [result]

    def _appended(self, kind: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
        node = ir.node(kind, inputs, attributes, name=f"edgert.{kind}.last")
        node.outputs[0].name = f"{node.name}.0"
        self.graph.append(node)
        return node.outputs[0]


def _value(name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
