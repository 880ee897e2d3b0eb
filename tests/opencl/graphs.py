"""Small models of what a graphics processor has kernels for, and of what it has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgert.artifact import Artifact

FLOAT = TensorProto.FLOAT


def graph(name: str) -> onnx.ModelProto:
    """A small model by name, its weights seeded."""
    rng = np.random.default_rng(8)
    constants: list[TensorProto] = []

    def constant(values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(values, f"constant{len(constants)}"))
        return constants[-1].name

    def weight(*shape: int) -> str:
        return constant((rng.standard_normal(shape) / 3).astype(np.float32))

    def numbers(*values: int) -> str:
        return constant(np.array(values, np.int64))

    node, image = helper.make_node, [1, 6, 13, 11]
    made: dict[str, tuple[list, list, list]] = {
        # borders, strides, a width that is no multiple of a tile, channels that are no multiple of a vector
        "convolutions": (
            [
                node("Conv", ["x", weight(10, 6, 3, 3), weight(10)], ["1"], pads=[1, 1, 1, 1], strides=[2, 1]),
                node("Sigmoid", ["1"], ["2"]), node("Mul", ["1", "2"], ["3"]),
                node("Conv", ["3", weight(10, 1, 3, 3)], ["4"], pads=[1, 1, 1, 1], group=10),
                node("Conv", ["4", weight(8, 5, 1, 1)], ["5"], group=2),
                node("Conv", ["5", weight(7, 8, 1, 1)], ["6"]), node("Clip", ["6", "", weight()], ["y"]),
            ],
            [("x", FLOAT, image)], [("y", FLOAT, None)],
        ),
        "images": (
            [
                node("MaxPool", ["x"], ["1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
                node("ConvTranspose", ["1", weight(6, 4, 2, 2)], ["2"], strides=[2, 2]),
                node("Resize", ["2", "", weight(0), numbers(1, 4, 9, 21)], ["3"], mode="linear"),
                node("GlobalAveragePool", ["3"], ["4"]), node("Mul", ["3", "4"], ["5"]),
                node("ReduceMax", ["5", numbers(3)], ["y"]),
            ],
            [("x", FLOAT, image)], [("y", FLOAT, None)],
        ),
        "nearest": (
            [node("Resize", ["x", "", constant(np.array([1, 1, 3, 2], np.float32))], ["y"])],
            [("x", FLOAT, image)], [("y", FLOAT, None)],
        ),
        "linear": (
            [node("Resize", ["x", "", constant(np.array([1, 1, 1.5, 2], np.float32))], ["y"], mode="linear")],
            [("x", FLOAT, image)], [("y", FLOAT, None)],
        ),
        # an open dimension, and rows of any length
        "attention": (
            [
                node("LayerNormalization", ["x", weight(24), weight(24)], ["n"], axis=-1),
                *(node("MatMul", ["n", weight(24, 24)], [f"{w}1"]) for w in "qkv"),
                *(node("Reshape", [f"{w}1", numbers(1, -1, 3, 8)], [f"{w}2"]) for w in "qkv"),
                *(node("Transpose", [f"{w}2"], [f"{w}3"], perm=[0, 2, 1, 3]) for w in "qv"),
                node("Transpose", ["k2"], ["k3"], perm=[0, 2, 3, 1]),
                node("MatMul", ["q3", "k3"], ["s1"]), node("Softmax", ["s1"], ["p"], axis=-1),
                node("MatMul", ["p", "v3"], ["o1"]), node("Transpose", ["o1"], ["o2"], perm=[0, 2, 1, 3]),
                node("Reshape", ["o2", numbers(1, -1, 24)], ["o3"]), node("Gelu", ["o3"], ["o4"]),
                node("Add", ["o4", "x"], ["o5"]), node("MatMul", ["o5", weight(24, 5)], ["y"]),
            ],
            [("x", FLOAT, [1, "length", 24])], [("y", FLOAT, None)],
        ),
        # keys that are no multiple of what is taken at once, heads that are none of a vector, both kinds of masks
        "masks": (
            [
                node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["q", "kt"], ["s1"]),
                node("Where", ["seen", "s1", constant(np.array(-np.inf, np.float32))], ["s2"]),
                node("Softmax", ["s2"], ["p1"], axis=-1), node("MatMul", ["p1", "v"], ["o1"]),
                node("Mul", ["o1", weight(1)], ["q2"]), node("MatMul", ["q2", "kt"], ["s3"]),
                node("Add", ["s3", "bias"], ["s4"]), node("Softmax", ["s4"], ["p2"], axis=-1),
                node("MatMul", ["p2", "v"], ["y"]),
            ],
            [
                *((n, FLOAT, [2, 3, s, 6]) for n, s in (("q", 5), ("k", 9), ("v", 9))),
                ("seen", TensorProto.BOOL, [5, 9]), ("bias", FLOAT, [2, 1, 5, 9]),
            ],
            [("y", FLOAT, None)],
        ),
        # truth values in the tail of a product, which tell rows and single elements apart
        "choices": (
            [
                node("MatMul", ["x", weight(9, 8)], ["1"]), node("Greater", ["1", weight(3, 1)], ["2"]),
                node("Where", ["2", "1", weight(1, 8)], ["3"]), node("Where", ["row", "3", "1"], ["4"]),
                node("Cast", ["2"], ["5"], to=FLOAT), node("Add", ["4", "5"], ["y"]),
            ],
            [("x", FLOAT, [3, 9]), ("row", TensorProto.BOOL, [3, 1])], [("y", FLOAT, None)],
        ),
        "numbers": (
            [
                node("Cast", ["i"], ["1"], to=TensorProto.INT64), node("Mul", ["1", "1"], ["2"]),
                node("Gather", [weight(9, 5), "i"], ["3"]), node("Exp", ["3"], ["4"]), node("Erf", ["4"], ["5"]),
                node("ReduceSum", ["5", numbers(1)], ["y"]), node("Cast", ["2"], ["z"], to=TensorProto.INT32),
            ],
            [("i", TensorProto.INT32, [7])], [("y", FLOAT, None), ("z", TensorProto.INT32, None)],
        ),
        # an operator that only the CPU has, between two that the device has
        "recurrent": (
            [
                node("Relu", ["x"], ["1"]),
                node("GRU", ["1", weight(1, 12, 6), weight(1, 12, 4)], ["2"], hidden_size=4),
                node("Tanh", ["2"], ["y"]),
            ],
            [("x", FLOAT, [5, 1, 6])], [("y", FLOAT, None)],
        ),
    }  # fmt: skip
    nodes, inputs, outputs = made[name]
    ports = ([helper.make_tensor_value_info(*port) for port in side] for side in (inputs, outputs))
    used = {name for n in nodes for name in n.input}
    made_of = helper.make_graph(nodes, name, *ports, [c for c in constants if c.name in used])
    return helper.make_model(made_of, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def feeds(path: Path, length: int = 17) -> dict[str, np.ndarray]:
    """Seeded inputs of an artifact."""
    rng, found = np.random.default_rng(3), {}
    for tensor in Artifact.open(path).spec.inputs:
        shape = [length if not isinstance(d, int) else d for d in tensor.shape]
        if tensor.dtype == "float32":
            found[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            found[tensor.name] = rng.integers(0, 2 if tensor.dtype == "bool" else 9, shape).astype(tensor.dtype)
    return found
