"""Determinants, and the mel filter bank."""

from __future__ import annotations

import math

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, product
from targets.target import Target

from . import mathfn
from .numbers import need_float, number, stored, wide
from .registry import Custom, Node, Unsupported, op


@op("Det", since=11)
def det(node: Node) -> Custom:
    """x [..., n, n] -> [...]: the product of the pivots of Gaussian elimination with partial pivoting."""
    x = node.need(0)
    acc = wide(need_float(x.dtype, node.op))
    n = number(x.shape[-1], "the matrix size")
    if number(x.shape[-2], "the matrix size") != n:
        raise Unsupported("matrices that are not square")
    batch = product(x.shape[:-2])
    result = Tensor(tuple(x.shape[:-2]), x.dtype, "det")

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder("det")
        with b:
            source, out = b.arg(x, [batch, n, n]), b.arg(results[0], [batch])
            m = b.arg(Temp((batch, n, n), acc, "matrix"))
            value, pivot, swap = b.local((1,), acc), b.local((1,), "int64"), b.local((1,), acc)
            with b.parallel(batch) as p:
                with b.serial(n, "i") as i, b.serial(n, "j") as j:
                    b.store(m, (p, i, j), source[p, i, j].astype(acc))
                b.store(value, 0, tirx.const(1, acc))
                with b.serial(n, "c") as c:
                    b.store(pivot, 0, as_expr(c, "int64"))
                    with b.serial(n - c, "i") as i:
                        best = tirx.abs(m[p, pivot[0], c])
                        with b.when(tirx.abs(m[p, c + i, c]) > best):
                            b.store(pivot, 0, as_expr(c + i, "int64"))
                    with b.when(pivot[0] > as_expr(c, "int64")):
                        with b.serial(n, "j") as j:
                            b.store(swap, 0, m[p, c, j])
                            b.store(m, (p, c, j), m[p, pivot[0], j])
                            b.store(m, (p, pivot[0], j), swap[0])
                        b.store(value, 0, tirx.const(0, acc) - value[0])
                    b.store(value, 0, value[0] * m[p, c, c])
                    with b.when(tirx.abs(m[p, c, c]) > tirx.const(0, acc)), b.serial(n - 1 - c, "i") as i:
                        b.store(swap, 0, m[p, c + 1 + i, c] / m[p, c, c])
                        with b.serial(n, "j") as j:
                            b.store(m, (p, c + 1 + i, j), m[p, c + 1 + i, j] - swap[0] * m[p, c, j])
                b.store(out, p, value[0])
        return [b.stage()]

    return Custom([result], emit, (x,))


@op("MelWeightMatrix", since=17)
def mel_weight_matrix(node: Node) -> Tensor:
    """[dft_length / 2 + 1, num_mel_bins]: triangles evenly spaced on the mel scale, 2595 log10(1 + f / 700)."""
    counts = [node.ints(i, what) for i, what in enumerate(("num_mel_bins", "dft_length"))]
    bins, length = (number((c or [0])[0], "a size") for c in counts)
    rate, low, high = node.need(2), node.need(3), node.need(4)
    dtype = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}.get(int(node.attr("output_datatype", 1)))
    if dtype is None:
        raise Unsupported("a matrix of integers", "float32")

    def real(t: Tensor) -> Scalar:
        return t(*[as_expr(0)] * t.ndim).astype("float64")

    def c(value: float) -> Scalar:
        return tirx.const(value, "float64")

    def mel(f: Scalar) -> Scalar:
        return c(2595 / math.log(10)) * mathfn.log1p(f / c(700))

    def edge(i: Index) -> Scalar:
        """The spectrogram bin of the i-th of bins + 2 points."""
        start, end = mel(real(low)), mel(real(high))
        at = as_expr(i).astype("float64") * ((end - start) / c(bins + 2)) + start
        hertz = c(700) * mathfn.expm1(at * c(math.log(10) / 2595))
        return tirx.floor(c(length + 1) * hertz / real(rate))

    edges = stored((bins + 2,), "float64", edge, [rate, low, high], "edges")

    def weight(j: Index, i: Index) -> Scalar:
        left, centre, right = (edges(as_expr(i) + k) for k in range(3))
        at = as_expr(j).astype("float64")
        rising = tirx.all(at >= left, at <= centre, centre > left)
        falling = tirx.all(at >= centre, at < right)
        peak = tirx.all(tirx.EQ(at, centre), tirx.EQ(left, centre))
        value = tirx.if_then_else(peak, c(1), c(0))
        value = tirx.if_then_else(rising, (at - left) / (centre - left), value)
        return tirx.if_then_else(falling, (right - at) / (right - centre), value).astype(dtype)

    return compute((length // 2 + 1, bins), dtype, weight, [edges], "mel")
