"""Pieces of random networks: operators over tokens, and those that turn images into them and back."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from tests.split.random_graph import MOST, Graph
from tests.split.random_image import Draw


def to_tokens(draw: Draw, g: Graph, x: str) -> None:
    """The pixels of an image as tokens."""
    n, c, h, w = g.shapes[x]
    y = g.op("Reshape", [x, g.numbers(n, c, h * w)], (n, c, h * w))
    g.op("Transpose", [y], (n, h * w, c), perm=[0, 2, 1])


def to_image(draw: Draw, g: Graph, x: str) -> None:
    n, t, d = g.shapes[x]
    rows = next(r for r in (4, 3, 2, 1) if t % r == 0)
    y = g.op("Transpose", [x], (n, d, t), perm=[0, 2, 1])
    g.op("Reshape", [y, g.numbers(n, d, rows, t // rows)], (n, d, rows, t // rows))


def regroup(draw: Draw, g: Graph, x: str) -> None:
    """The same bytes in other rows."""
    n, t, d = g.shapes[x]
    shapes = [s for s in ((n, t // 2, d * 2), (n, t * 2, d // 2)) if prod(s) == n * t * d]
    if shapes:
        shape = draw(st.sampled_from(shapes))
        g.op("Reshape", [x, g.numbers(*shape)], shape)


def linear(draw: Draw, g: Graph, x: str) -> None:
    n, t, d = g.shapes[x]
    out = draw(st.sampled_from([16, 32, 8, 64, 5]))
    if n * t * out > MOST:
        return
    y = g.op("MatMul", [x, g.weight(d, out)], (n, t, out))
    if draw(st.booleans()):
        y = g.like("Add", [y, g.weight(out)])
    if draw(st.booleans()):
        g.like(draw(st.sampled_from(["Relu", "Sigmoid"])), [y])


def norm(draw: Draw, g: Graph, x: str) -> None:
    d = g.shapes[x][-1]
    g.like("LayerNormalization", [x, g.weight(d), g.weight(d)], axis=-1)


def soft(draw: Draw, g: Graph, x: str) -> None:
    g.like("Softmax", [x], axis=draw(st.sampled_from([-1, 1])))


def mlp(draw: Draw, g: Graph, x: str) -> None:
    """A transformer's, with its normalization before and its residual after."""
    n, t, d = g.shapes[x]
    wide = draw(st.sampled_from([32, 64]))
    if n * t * wide > MOST:
        return
    h = g.like("LayerNormalization", [x, g.weight(d), g.weight(d)], axis=-1)
    h = g.like("Add", [g.op("MatMul", [h, g.weight(d, wide)], (n, t, wide)), g.weight(wide)])
    h = g.like("Relu", [h])
    g.like("Add", [x, g.op("MatMul", [h, g.weight(wide, d)], (n, t, d))])


def attend(draw: Draw, g: Graph, x: str) -> None:
    """Attention of one head or of several."""
    n, t, d = g.shapes[x]
    heads = draw(st.sampled_from([1, 2, 4]))
    wide = 16
    if n * heads * t * t > MOST:
        return
    q, k, v = (g.op("MatMul", [x, g.weight(d, wide)], (n, t, wide)) for _ in range(3))
    if heads == 1:
        turned = g.op("Transpose", [k], (n, wide, t), perm=[0, 2, 1])
        scores = g.op("MatMul", [q, turned], (n, t, t))
        scores = g.like("Mul", [scores, g.constant(np.array(wide**-0.5, np.float32))])
        g.op("MatMul", [g.like("Softmax", [scores], axis=-1), v], (n, t, wide))
        return
    each = wide // heads
    rows, keys, values = (
        g.op("Transpose", [g.op("Reshape", [y, g.numbers(n, t, heads, each)], (n, t, heads, each))], shape, perm=perm)
        for y, perm, shape in (
            (q, [0, 2, 1, 3], (n, heads, t, each)), (k, [0, 2, 3, 1], (n, heads, each, t)),
            (v, [0, 2, 1, 3], (n, heads, t, each)),
        )
    )  # fmt: skip
    scores = g.op("MatMul", [rows, keys], (n, heads, t, t))
    scores = g.like("Mul", [scores, g.constant(np.array(each**-0.5, np.float32))])
    mixed = g.op("MatMul", [g.like("Softmax", [scores], axis=-1), values], (n, heads, t, each))
    mixed = g.op("Transpose", [mixed], (n, t, heads, each), perm=[0, 2, 1, 3])
    g.op("Reshape", [mixed, g.numbers(n, t, wide)], (n, t, wide))


def reduce(draw: Draw, g: Graph, x: str) -> None:
    """Over rows or columns, kept as 1 so that the result may be spread over what it came from."""
    shape = g.shapes[x]
    kind = draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum"]))
    axes = draw(st.sampled_from([[len(shape) - 1], [1], list(range(2, len(shape)))]))
    made = tuple(1 if i in axes else d for i, d in enumerate(shape))
    y = g.op(kind, [x, g.numbers(*axes)], made) if kind == "ReduceSum" else g.op(kind, [x], made, axes=axes)
    if draw(st.booleans()):
        g.like("Sub", [x, y])
