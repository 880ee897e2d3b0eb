"""Small networks of products and a lookup table, and what the tests of their schemes share."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quant.contract import Layer, Options
from quant.model import open_session
from quant.quantize import quantize
from quant.schemes import Scheme
from tests.quant.networks import model, node

FLOAT32_SUMS = 1e-5  # of the largest answer: float32 sums of a few hundred products, in another order


def product(weights: np.ndarray, bias: np.ndarray | None = None, rows: tuple[int | str, ...] = ("b", "s")):
    """y = MatMul(x, w), and Add(., b) if there is a bias; x is [*rows, K]."""
    arrays, last = {"w": weights}, "y"
    nodes = []
    if bias is not None:
        arrays["b"], last = bias, "m"
        nodes = [node("Add", ["m", "b"], "y")]
    return model([node("MatMul", ["x", "w"], last), *nodes], arrays, (*rows, len(weights)))  # type: ignore[arg-type]


def gemm(weights: np.ndarray, bias: np.ndarray, transposed: bool = False, **attributes: float) -> onnx.ModelProto:
    """y = Gemm(x, w, b), the weights [N, K] if transposed."""
    stored = weights.T if transposed else weights
    nodes = [node("Gemm", ["x", "w", "b"], "y", transB=int(transposed), **attributes)]
    return model(nodes, {"w": stored, "b": bias}, (3, len(weights)))


def lookup(table: np.ndarray) -> onnx.ModelProto:
    """y = MatMul(Gather(table, ids), w) with the identity for w: the table's rows."""
    width = table.shape[1]
    graph = helper.make_graph(
        [node("Gather", ["t", "ids"], "g"), node("MatMul", ["g", "w"], "y")],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, (1, "n"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "t"), numpy_helper.from_array(np.eye(width, dtype=np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The answer of a model of one input: valid ONNX, run node by node as it is written."""
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.domain for entry in proto.opset_import} <= {"", "ai.onnx"}
    session = open_session(proto, optimise=False)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def quantized(
    proto: onnx.ModelProto,
    scheme: str | Scheme,
    options: Options | None = None,
    samples: list[np.ndarray] | None = None,
) -> tuple[onnx.ModelProto, list[Layer]]:
    """The quantized model and what became of its layers; calibrated on arrays for the only input, if given."""
    name = proto.graph.input[0].name
    fed = None if samples is None else [{name: sample} for sample in samples]
    done = quantize(proto, None, scheme, fed, options)
    return done.model, done.layers


def off(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, as a share of the largest answer."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def ops(proto: onnx.ModelProto) -> list[str]:
    """The operators, sorted."""
    return sorted(n.op_type for n in proto.graph.node)


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
