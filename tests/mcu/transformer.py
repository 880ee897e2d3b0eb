"""A small vision transformer of MCUFormer's kind (patches, attention, layer norm, GELU) with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, PATCH, WIDTH, HEADS, LAYERS, CLASSES = 16, 4, 32, 2, 2, 5
TOKENS = (SIZE // PATCH) ** 2


def samples(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Inputs of the network."""
    rng = np.random.default_rng([31, seed])
    return [{"image": rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(count)]


def transformer(folder: Path) -> Path:
    """The network in floats."""
    rng = np.random.default_rng(37)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array, name))
        return name

    def random(name: str, *shape: int) -> str:
        return constant(name, (rng.standard_normal(shape) * np.prod(shape[:-1]) ** -0.5).astype(np.float32))

    def add(op: str, *inputs: str, name: str, **attrs: object) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name, **attrs))
        return name

    def linear(x: str, name: str, rows: int, cols: int) -> str:
        product = add("MatMul", x, random(f"{name}.w", rows, cols), name=f"{name}.product")
        return add("Add", product, constant(f"{name}.b", rng.standard_normal(cols).astype(np.float32) / 8), name=name)

    def norm(x: str, name: str) -> str:
        scale = constant(f"{name}.scale", 1 + rng.standard_normal(WIDTH).astype(np.float32) / 8)
        shift = constant(f"{name}.shift", rng.standard_normal(WIDTH).astype(np.float32) / 8)
        return add("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=1e-5)

    def heads(x: str, name: str, perm: list[int]) -> str:
        return add("Transpose", add("Reshape", x, "split", name=f"{name}.s"), name=f"{name}.t", perm=perm)

    constant("split", np.array([1, TOKENS, HEADS, WIDTH // HEADS]))
    constant("joined", np.array([1, TOKENS, WIDTH]))
    constant("tokens", np.array([1, WIDTH, TOKENS]))
    constant("root", np.array((WIDTH // HEADS) ** -0.5, np.float32))
    patches = (rng.standard_normal((WIDTH, 3, PATCH, PATCH)) / 7).astype(np.float32)
    x = add("Conv", "image", constant("patch.w", patches), name="patch", strides=[PATCH, PATCH])
    x = add("Transpose", add("Reshape", x, "tokens", name="rows"), name="columns", perm=[0, 2, 1])
    x = add("Add", x, constant("positions", rng.standard_normal((1, TOKENS, WIDTH)).astype(np.float32) / 4), name="in")
    for i in range(LAYERS):
        y = norm(x, f"norm{i}a")
        q, k, v = (linear(y, f"{n}{i}", WIDTH, WIDTH) for n in "qkv")
        key = heads(k, f"k{i}", [0, 2, 3, 1])
        scores = add("MatMul", heads(q, f"q{i}", [0, 2, 1, 3]), key, name=f"scores{i}")
        shares = add("Softmax", add("Mul", scores, "root", name=f"scaled{i}"), name=f"shares{i}", axis=-1)
        mixed = add("MatMul", shares, heads(v, f"v{i}", [0, 2, 1, 3]), name=f"mixed{i}")
        mixed = add("Transpose", mixed, name=f"turned{i}", perm=[0, 2, 1, 3])
        out = linear(add("Reshape", mixed, "joined", name=f"joined{i}"), f"out{i}", WIDTH, WIDTH)
        x = add("Add", x, out, name=f"with{i}")
        wide = add("Gelu", linear(norm(x, f"norm{i}b"), f"up{i}", WIDTH, 2 * WIDTH), name=f"gelu{i}")
        x = add("Add", x, linear(wide, f"down{i}", 2 * WIDTH, WIDTH), name=f"block{i}")
    mean = add("ReduceMean", norm(x, "last"), constant("axis", np.array([1])), name="mean", keepdims=0)
    linear(mean, "logits", WIDTH, CLASSES)
    graph = helper.make_graph(
        nodes, "transformer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "transformer.onnx")
    return folder / "transformer.onnx"
