"""Small networks with something to split, seeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from tests.compiler.small import save

Shape = tuple[int, ...]


class Net:
    """Nodes and weights of a network in the making."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list = []
        self.weights: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        fan = max(int(np.prod(shape[1:])), 1)
        self.weights[name] = (self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        return name

    def conv(self, x: str, cin: int, cout: int, k: int = 3, stride: int = 1, group: int = 1, **attrs: Any) -> str:
        pad = attrs.pop("pads", [k // 2] * 4)
        w = self.weight(cout, cin // group, k, k)
        y = self.op("Conv", x, w, self.weight(cout), strides=[stride] * 2, group=group, pads=pad, **attrs)
        return self.op("Relu", y)

    def done(self, path: Path, y: str, x: Shape, out: Shape) -> Path:
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        return save(path, self.nodes, {"x": x}, {"y": out}, self.weights)


def plain(path: Path) -> Path:
    """Convolutions of all strides and paddings, a depthwise one, dilation, both pools."""
    n = Net(1)
    v = n.conv("x", 3, 8, stride=2, pads=[0, 0, 1, 1])
    v = n.conv(v, 8, 8, group=8)
    v = n.conv(v, 8, 24, k=1)
    v = n.op("MaxPool", v, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    v = n.conv(v, 24, 16, dilations=[2, 2], pads=[2, 2, 2, 2])
    v = n.op("AveragePool", v, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0])
    v = n.conv(v, 16, 8, k=5, stride=2)
    v = n.op("GlobalAveragePool", v)
    return n.done(path, v, (1, 3, 65, 61), (1, 8, 1, 1))


def residual(path: Path) -> Path:
    """Inverted residual blocks: the sums inside join rows with a halo and rows without."""
    n = Net(2)
    v = n.conv("x", 3, 8, stride=2)
    for _ in range(2):
        e = n.conv(v, 8, 48, k=1)
        e = n.conv(e, 48, 48, group=48)
        e = n.op("Conv", e, n.weight(8, 48, 1, 1))
        v = n.op("Add", v, e)
    v = n.conv(v, 8, 16, stride=2)
    v = n.op("HardSwish", v)
    v = n.op("GlobalAveragePool", v)
    return n.done(path, v, (1, 3, 48, 40), (1, 16, 1, 1))


def tokens(path: Path) -> Path:
    """A transformer's MLP over 96 tokens, with normalization and residual, and a mean over them."""
    n = Net(3)
    v = n.op("MatMul", "x", n.weight(16, 32))
    scale, shift = n.weight(32), n.weight(32)
    for _ in range(2):
        h = n.op("LayerNormalization", v, scale, shift, axis=-1)
        h = n.op("Add", n.op("MatMul", h, n.weight(32, 128)), n.weight(128))
        h = n.op("Relu", h)
        h = n.op("Add", n.op("MatMul", h, n.weight(128, 32)), n.weight(32))
        v = n.op("Add", v, h)
    v = n.op("ReduceMean", v, axes=[1], keepdims=0)
    return n.done(path, v, (1, 96, 16), (1, 32))


def scores(path: Path) -> Path:
    """Rows of a softmax over all keys: the scores are the largest value by far."""
    n = Net(4)
    q = n.op("Tanh", n.op("MatMul", "x", n.weight(16, 16)))
    k = n.op("Tanh", n.op("MatMul", "x", n.weight(16, 16)))
    v = n.op("Sigmoid", n.op("MatMul", "x", n.weight(16, 16)))
    s = n.op("Softplus", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])))
    s = n.op("MatMul", n.op("Softmax", s, axis=-1), v)
    return n.done(path, n.op("ReduceMean", s, axes=[1], keepdims=0), (1, 80, 16), (1, 16))


def heads(path: Path) -> Path:
    """Attention of four heads over 64 tokens: by rows of queries, or by heads."""
    n = Net(5)
    n.weights |= {"split": np.array([1, 64, 4, 16], np.int64), "join": np.array([1, 64, 64], np.int64)}
    q, k, v = (
        n.op("Transpose", n.op("Reshape", n.op("MatMul", "x", n.weight(16, 64)), "split"), perm=[0, 2, 1, 3])
        for _ in range(3)
    )
    s = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    s = n.op("Reshape", n.op("Transpose", n.op("MatMul", s, v), perm=[0, 2, 1, 3]), "join")
    s = n.op("MatMul", s, n.weight(64, 16))
    return n.done(path, n.op("ReduceMean", s, axes=[1], keepdims=0), (1, 64, 16), (1, 16))


NETS = {"plain": plain, "residual": residual, "tokens": tokens, "scores": scores, "heads": heads}
