"""Products with a constant matrix (MatMul, Gemm) and lookup tables (Gather): what rewriters replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from quant.contract import Layer, Options
from quant.graph import Graph, attribute

# Other operators that usually hold weights: they are listed, with the reason why they stay float32.
_OTHERS = {"Conv": 1, "ConvTranspose": 1, "LSTM": 1, "GRU": 1, "RNN": 1}


@dataclass(frozen=True)
class Linear:
    """One MatMul or Gemm by a constant float32 matrix: `data` [.., K] times `matrix` [K, N] (read-only).

    `transposed`: the initializer `weight` is [N, K] (Gemm's transB). `op` MatMul or Gemm.
    """

    node: onnx.NodeProto
    weight: str
    transposed: bool
    matrix: np.ndarray

    @property
    def data(self) -> str:
        """The name of the value that is multiplied."""
        return self.node.input[0]

    @property
    def axis(self) -> int:
        """The axis of the stored weights that the product sums over."""
        return 1 if self.transposed else 0

    def stored(self, array: np.ndarray) -> np.ndarray:
        """An array made for the [K, N] matrix, in the layout of the stored weights."""
        return np.ascontiguousarray(array.T if self.transposed else array)


def linears(graph: Graph, options: Options) -> tuple[list[Linear], list[Layer]]:
    """The products that `options` let be quantized, and those with weights that cannot or must not, with the reason."""
    found, left = [], []
    for node in graph.nodes:
        if node.op_type in _OTHERS and graph.constant(node.input[_OTHERS[node.op_type]]) is not None:
            left.append(Layer(node.name, node.op_type, None, "this scheme takes products by a constant matrix only"))
        if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
            continue
        matrix = graph.constant(node.input[1])
        if reason := _reason(graph, node, matrix, options):
            left.append(Layer(node.name, node.op_type, None, reason))
        elif matrix is not None:
            transposed = bool(attribute(node, "transB", 0))
            found.append(Linear(node, node.input[1], transposed, matrix.T if transposed else matrix))
    return found, left


def tables(graph: Graph, options: Options) -> list[onnx.NodeProto]:
    """The Gathers along the first axis of a constant float32 [rows, width], at least 16 wide (embeddings)."""
    if not options.embeddings:
        return []
    return [
        node
        for node in graph.nodes
        if node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and options.takes(node.name)
        if (shape := graph.shape(node.input[0])) is not None and len(shape) == 2 and int(shape[1] or 0) >= 16
        if (table := graph.constant(node.input[0])) is not None
        if table.dtype == np.float32 and np.isfinite(table).all()
    ]


def _reason(graph: Graph, node: onnx.NodeProto, matrix: np.ndarray | None, options: Options) -> str:
    """Why a product stays float32, or nothing."""
    if matrix is None:
        return "the left operand is the constant one" if graph.constant(node.input[0]) is not None else ""
    if not options.takes(node.name):
        return "kept as asked"
    if graph.dtype(node.input[1]) != TensorProto.FLOAT:
        return "the weights are not float32"
    if matrix.ndim != 2:
        return f"the weights have {matrix.ndim} dimensions, not 2"
    if not matrix.size:
        return "the weights are empty"
    if not np.isfinite(matrix).all():
        return "the weights hold NaN or infinity"
    if len(graph.shape(node.input[0]) or (0, 0)) < 2:
        return "the data is a single vector"  # ONNX Runtime takes no blocks of it where there is one only
    return "the data comes transposed (transA)" if attribute(node, "transA", 0) else ""


def replace(graph: Graph, node: onnx.NodeProto, value: str) -> None:
    """Let `value` take the place of a node's only output, and take the node out.

    The node that makes `value` gets the old name as its output, so that names of values (and of graph outputs) stay.
    """
    name, maker = node.output[0], graph.producer[value]
    graph.remove(node)
    maker.output[:] = [name if output == value else output for output in maker.output]
    graph.rename_uses(value, name)
    graph.index()


def replace_weights(graph: Graph, layer: Linear, stored: dict[tuple[str, bool], str], make: Callable[[], str]) -> None:
    """Have `layer` read what `make` adds for its [K, N] matrix; products of one weight share it through `stored`."""
    key = layer.weight, layer.transposed
    if key not in stored:
        weights = make()
        if layer.transposed:
            weights = graph.add("Transpose", [weights], f"{layer.weight}_transposed", perm=[1, 0])
        stored[key] = weights
    graph.replace_input(layer.node, layer.weight, stored[key])
