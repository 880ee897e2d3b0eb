"""A vision transformer of DeiT-Tiny's shape (Touvron et al., 2021) with seeded weights, as an exporter writes one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

Array = np.ndarray


class _Graph:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list = []
        self.weights: list = []

    def op(self, kind: str, *inputs: str, **attrs: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n_{name}", **attrs))
        return name

    def constant(self, values: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, *shape: int, scale: float) -> str:
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def linear(self, x: str, inner: int, outer: int) -> str:
        product = self.op("MatMul", x, self.normal(inner, outer, scale=inner**-0.5))
        return self.op("Add", product, self.normal(outer, scale=0.02))

    def norm(self, x: str, width: int) -> str:
        scale = self.constant((1 + 0.1 * self.rng.standard_normal(width)).astype(np.float32))
        return self.op("LayerNormalization", x, scale, self.normal(width, scale=0.02), axis=-1, epsilon=1e-6)


def vit(path: Path, image: int = 224, patch: int = 16, width: int = 192, layers: int = 12, heads: int = 3) -> Path:
    """Writes the model: `image` uint8 [1, 3, image, image] to `logits` float32 [1, 1000]."""
    g = _Graph(16)
    tokens, head = (image // patch) ** 2, width // heads
    x = g.op("Mul", g.op("Cast", "image", to=TensorProto.FLOAT), g.constant(np.float32(1 / 127.5)))
    x = g.op("Sub", x, g.constant(np.float32(1)))
    fan = 3 * patch * patch
    kernel = g.normal(width, 3, patch, patch, scale=fan**-0.5)
    x = g.op("Conv", x, kernel, g.normal(width, scale=0.02), kernel_shape=[patch] * 2, strides=[patch] * 2)
    x = g.op("Reshape", x, g.constant(np.array([1, width, tokens], np.int64)))
    x = g.op("Concat", g.normal(1, 1, width, scale=1.0), g.op("Transpose", x, perm=[0, 2, 1]), axis=1)
    x = g.op("Add", x, g.normal(1, tokens + 1, width, scale=0.2))
    split = g.constant(np.array([1, tokens + 1, heads, head], np.int64))
    join = g.constant(np.array([1, tokens + 1, width], np.int64))
    for _ in range(layers):
        h = g.norm(x, width)
        q, k, v = (
            g.op("Transpose", g.op("Reshape", g.linear(h, width, width), split), perm=perm)
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        s = g.op("Mul", g.op("MatMul", q, k), g.constant(np.float32(head**-0.5)))
        s = g.op("MatMul", g.op("Softmax", s, axis=-1), v)
        s = g.op("Reshape", g.op("Transpose", s, perm=[0, 2, 1, 3]), join)
        x = g.op("Add", x, g.linear(s, width, width))
        h = g.linear(g.norm(x, width), width, 4 * width)
        h = g.op("Gelu", h)
        x = g.op("Add", x, g.linear(h, 4 * width, width))
    x = g.op("Gather", g.norm(x, width), g.constant(np.array(0, np.int64)), axis=1)
    g.nodes.append(
        helper.make_node("Gemm", [x, g.normal(1000, width, scale=0.05), g.normal(1000, scale=0.02)], ["logits"],
                         transB=1, name="head")
    )  # fmt: skip
    graph = helper.make_graph(
        g.nodes, "vit",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, image, image])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
        g.weights,
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path
