"""The Walsh-Hadamard transform of a head's elements, which spreads what is large over all of them (QuaRot, Ashkboos et
al. 2024, arXiv:2404.00456): orthonormal and its own inverse."""

from __future__ import annotations

from tvm import tirx

from .builder import Builder
from .dot import load_vector, store_vector
from .nibbles import splat
from .tensor import as_expr


def hadamard(b: Builder, row: tirx.Var, size: int, span: int, lanes: int) -> None:
    """Transforms each `span` neighbours (a power of two, of which `size` is a multiple) of the local buffer `row`."""
    lanes = min(lanes, span)
    for start in range(0, size, span):
        step = span // 2
        while step >= lanes:
            for d in (d for d in range(0, span, lanes) if not d & step):
                places = as_expr(start + d), as_expr(start + d + step)
                x, y = (b.let(load_vector(row, place, count=lanes), "x") for place in places)
                store_vector(b, row, x + y, places[0])
                store_vector(b, row, x - y, places[1])
            step //= 2
        for d in range(start, start + span, lanes):
            _within(b, row, d, step, span**-0.5, lanes)


def _within(b: Builder, row: tirx.Var, d: int, step: int, scale: float, lanes: int) -> None:
    """The last rounds, in the lanes of one vector, and the scale that keeps lengths."""
    one, minus = splat(1.0, "float32", lanes), splat(-1.0, "float32", lanes)
    while step:
        x = b.let(load_vector(row, as_expr(d), count=lanes), "x")
        other = tirx.Shuffle([x], [as_expr(u ^ step) for u in range(lanes)])
        sign = tirx.Shuffle([one, minus], [as_expr(u + lanes if u & step else u) for u in range(lanes)])
        store_vector(b, row, x * sign + other, as_expr(d))
        step //= 2
    store_vector(b, row, load_vector(row, as_expr(d), count=lanes) * splat(scale, "float32", lanes), as_expr(d))
