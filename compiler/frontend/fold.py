"""Runs one node whose inputs are all constants, by ONNX's own definition of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from targets.kernels.tensor import Index, product

from .facts import ValueFact
from .types import ONNX_TYPES, onnx_dtype

# Folding DequantizeLinear would turn int8 weights into float ones; the rest gives other numbers each time it is run.
NEVER = {"DequantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
         "Multinomial", "Dropout"}  # fmt: skip
FOUR_BITS = (ir.DataType.INT4, ir.DataType.UINT4)
# The reference is plain Python loops for these; ONNX Runtime gives the same numbers within rounding.
HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Resize", "LSTM", "GRU", "RNN", "Einsum", "MaxPool", "AveragePool"}
# Outputs whose size only running tells, but never much larger than the inputs.
DATA_DEPENDENT = {"NonZero", "Unique", "Compress", "NonMaxSuppression"}
MOST_BYTES = 1 << 20  # a folded result may always be this large, and never larger than this and its inputs


WEIGHT_INPUTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 0}  # from this input on, they are weights
MOST_FILL = 1 << 31


def filled(node: ir.Node, shape: Sequence[Index], inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The output of ConstantOfShape as an array that takes no memory; None where it is better made at run time.

    Worth its place in the artifact only where it is small, or a weight that kernels want packed.
    """
    value = node.attributes["value"].value.numpy() if "value" in node.attributes else np.zeros(1, np.float32)
    count = product(shape)
    if not isinstance(count, int) or count * value.itemsize > MOST_FILL:
        return None
    if count * value.itemsize > MOST_BYTES and not _is_weight(node.outputs[0]):
        return None
    return np.broadcast_to(value.reshape(-1)[0], tuple(int(d) for v in inputs.values() for d in v))


def _is_weight(value: ir.Value) -> bool:
    """Whether everybody who reads `value`, perhaps reshaped, takes it as a weight."""
    for use in value.uses():
        if use.node.op_type in ("Reshape", "Transpose", "Identity") and use.idx == 0:
            if not _is_weight(use.node.outputs[0]):
                return False
        elif use.idx < WEIGHT_INPUTS.get(use.node.op_type, 1 << 30):
            return False
    return bool(value.uses()) and not value.is_graph_output()


def foldable(node: ir.Node) -> bool:
    """Whether running this operator at compile time can replace it."""
    if node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype in FOUR_BITS:
        return False  # indices into a codebook stay as small as they are
    return node.op_type not in NEVER and not any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())


def result_bytes(node: ir.Node, facts: Sequence[ValueFact | None]) -> float:
    """How large the node's outputs will be; infinite where that is not known before running it."""
    if node.op_type in DATA_DEPENDENT:
        return 0
    total = 0.0
    for output, fact in zip(node.outputs, facts, strict=False):
        if not output.name:
            continue
        size = product(fact.shape) if fact is not None else None
        if fact is None or not isinstance(size, int):
            return math.inf
        total += size * onnx_dtype(fact.dtype).itemsize
    return total


def fold(node: ir.Node, inputs: Mapping[str, np.ndarray], domain: str, version: int) -> list[np.ndarray] | None:
    """The node's outputs for these inputs (by value name); None where it cannot be run, so it stays in the graph."""
    if any(str(array.dtype) not in ONNX_TYPES for array in inputs.values()):
        return None
    model = _one_node_model(node, inputs, domain, version)
    runners = [_by_reference, _by_onnxruntime]
    if node.op_type in HEAVY:
        runners.reverse()
    for run in runners:
        try:
            results = run(model, inputs)
        except Exception:  # whatever the reference raises for a form it lacks; the operator's handler judges the form
            continue
        arrays = [np.asarray(r) for r in results]
        if all(str(a.dtype) in ONNX_TYPES for a in arrays):
            return arrays
    return None


def _one_node_model(node: ir.Node, inputs: Mapping[str, np.ndarray], domain: str, version: int) -> onnx.ModelProto:
    proto = ir.serde.serialize_node(node)
    types = {name: (int(onnx_dtype(str(a.dtype))), a.shape) for name, a in inputs.items()}
    infos = [onnx.helper.make_tensor_value_info(name, *kind) for name, kind in types.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "fold", infos, outputs)
    opsets = [onnx.helper.make_opsetid(domain, version)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=min(10, onnx.IR_VERSION))


def _by_reference(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model).run(None, dict(inputs)))


def _by_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))
