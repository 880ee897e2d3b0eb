"""One-dimensional resampling: for each output position the input taps and their weights.

The coordinate rules are those of ONNX's Resize-19. Linear and cubic positions are worked out in float64; the nearest
mode in float32 like ONNX Runtime, since there a rounding decides which pixel is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, reduce

from . import mathfn
from .numbers import clamp, stored
from .registry import Unsupported


def f64(value: float) -> Scalar:
    """A float64 constant."""
    return tirx.const(float(value), "float64")


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis to resample, with positions of type `dtype`.

    roi: reads (start, end) of the region of interest, where the mode has one.
    """

    size: int
    out: int
    scale: float
    coordinates: str
    roi: tuple[Callable[[], Scalar], Callable[[], Scalar]] | None = None
    dtype: str = "float64"

    def c(self, value: float) -> Scalar:
        """A constant of the type that positions are worked out in."""
        return tirx.const(float(value), self.dtype)

    def source(self, y: Index) -> Scalar:
        """The input coordinate of output position y."""
        at = as_expr(y).astype(self.dtype)
        n, length = self.size, self.scale * self.size
        rule = self.coordinates
        if rule == "align_corners":
            return self.c(0) if length == 1 else at * self.c(n - 1) / self.c(length - 1)
        if rule == "asymmetric":
            return at / self.c(self.scale)
        if rule == "tf_crop_and_resize":
            assert self.roi is not None
            start, end = (r().astype(self.dtype) for r in self.roi)
            span = (end - start) * self.c(n - 1)
            inner = span / self.c(2) if length == 1 else at * span / self.c(length - 1)
            return inner + start * self.c(n - 1)
        if rule == "pytorch_half_pixel" and length == 1:
            return self.c(-0.5)
        half = (at + self.c(0.5)) / self.c(self.scale) - self.c(0.5)
        if rule in ("half_pixel", "pytorch_half_pixel"):
            return half
        if rule == "half_pixel_symmetric":
            return self.c(n / 2 * (1 - self.out / length)) + half
        raise Unsupported(f"coordinate_transformation_mode {rule}", "half_pixel")

    def table(self, extra: list[Tensor]) -> Tensor:
        """The input coordinate of every output position, [out]. extra: what the region of interest is read from."""
        return stored((self.out,), self.dtype, self.source, extra, "coordinates")

    def outside(self, x: Scalar) -> Scalar | None:
        """Whether input coordinate x lies outside the region that the mode crops to; None where it has none."""
        if self.coordinates != "tf_crop_and_resize":
            return None
        return tirx.any(x < self.c(0), x > self.c(self.size - 1))


def nearest(axis: Axis, x: Scalar, rule: str) -> Scalar:
    """The input position to copy for input coordinate x."""
    below = tirx.floor(x)
    rest = x - below
    up = {
        "round_prefer_floor": rest > axis.c(0.5), "round_prefer_ceil": rest >= axis.c(0.5),
        "floor": tirx.const(False, "bool"), "ceil": rest > axis.c(0),
    }.get(rule)  # fmt: skip
    if up is None:
        raise Unsupported(f"nearest_mode {rule}", "round_prefer_floor")
    position = (below + tirx.Select(up, axis.c(1), axis.c(0))).astype("int64")
    return as_expr(clamp(position, 0, axis.size - 1), "int64")


@dataclass(frozen=True, eq=False)
class Kernel:
    """An interpolation kernel of `taps` taps. weight(ratio, k) is tap k's, ratio in (0, 1] past the left neighbour."""

    taps: int
    weight: Callable[[Scalar, Scalar], Scalar]
    normalise: bool  # the weights do not add up to one by themselves

    def split(self, x: Scalar) -> tuple[Scalar, Scalar]:
        """(first tap's position, ratio). At a pixel's centre the ratio is 1, from the pixel before."""
        below = tirx.floor(x)
        rest = x - below
        whole = mathfn.select(rest > f64(0), f64(0), f64(1))
        if self.taps % 2 == 0:
            first = below - f64(self.taps // 2 - 1) - whole
        else:
            first = below - f64((self.taps - 1) // 2) + mathfn.select(rest <= f64(0.5), f64(0), f64(1))
        return first.astype("int64"), rest + whole


def kernel(mode: str, scale: float, antialias: bool, a: float, exclude: bool) -> Kernel:
    """The kernel of mode linear or cubic; with antialias it widens as the scale shrinks."""
    shrink = min(scale, 1.0) if antialias else 1.0
    reach = 1 if mode == "linear" else 2
    start = math.floor(-reach / shrink) + 1
    taps = 2 - 2 * start if mode == "linear" else 2 - start - start
    fn = _hat if mode == "linear" else _cubic(a)

    def weight(ratio: Scalar, k: Scalar) -> Scalar:
        return fn((k.astype("float64") + f64(start) - ratio) * f64(shrink))

    return Kernel(taps, weight, antialias or exclude)


def _hat(x: Scalar) -> Scalar:
    return tirx.max(f64(1) - mathfn.absolute(x), f64(0))


def _cubic(a: float) -> Callable[[Scalar], Scalar]:
    """Keys' cubic convolution (1981), equation 4, with its free parameter a."""

    def fn(x: Scalar) -> Scalar:
        x = mathfn.absolute(x)
        near = ((f64(a + 2) * x - f64(a + 3)) * x) * x + f64(1)
        far = ((f64(a) * x - f64(5 * a)) * x + f64(8 * a)) * x - f64(4 * a)
        return mathfn.select(x <= f64(1), near, mathfn.select(x < f64(2), far, f64(0)))

    return fn


def resample(
    x: Tensor, at: int, axis: Axis, kern: Kernel, exclude: bool, acc: str, extra: list[Tensor], fill: float
) -> Tensor:
    """x resampled along dimension `at`, in type `acc`. extra: tensors that the region of interest is read from."""
    coordinates = axis.table(extra)

    def position(y: Index, k: Index) -> Scalar:
        return kern.split(coordinates(y))[0] + as_expr(k).astype("int64")

    def weight(y: Index, k: Index) -> Scalar:
        value = kern.weight(kern.split(coordinates(y))[1], as_expr(k))
        if exclude:
            p = position(y, k)
            value = tirx.if_then_else(
                tirx.all(p >= as_expr(0, "int64"), p < as_expr(axis.size, "int64")), value, f64(0)
            )
        return value

    places = stored((axis.out, kern.taps), "int64", lambda y, k: as_expr(clamp(position(y, k), 0, axis.size - 1)),
                   [coordinates], "positions")  # fmt: skip
    weights = stored((axis.out, kern.taps), "float64", weight, [coordinates], "weights")
    if kern.normalise:
        raw = weights
        total = reduce((axis.out,), "float64", [kern.taps], "sum", lambda i, k: raw(i[0], k[0]), [raw], None, "total")
        weights = stored((axis.out, kern.taps), "float64", lambda y, k: raw(y, k) / total(y), [raw, total], "weights")

    def body(i: tuple, k: tuple) -> Scalar:
        place = [*i[:at], places(i[at], k[0]), *i[at + 1 :]]
        return x(*place).astype(acc) * weights(i[at], k[0]).astype(acc)

    def finish(value: Scalar, *i: Index) -> Scalar:
        out = axis.outside(coordinates(i[at]))
        return value if out is None else tirx.if_then_else(out, tirx.const(fill, acc), value)

    shape = [axis.out if d == at else s for d, s in enumerate(x.shape)]
    return reduce(shape, acc, [kern.taps], "sum", body, [x, places, weights, coordinates], finish, f"resample{at}")
