"""Sliding windows: where convolution and pooling windows lie, and how many there are (ONNX Conv-22, MaxPool-22)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.tensor import Index, as_expr, simplify

from .numbers import both, ceildiv, clamp, floordiv
from .registry import Node, Unsupported


@dataclass(frozen=True)
class Window:
    """Windows over spatial axes, one entry an axis. `size`: the input; `out`: how many windows; pads in elements."""

    size: tuple[Index, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[Index, ...]
    after: tuple[Index, ...]
    out: tuple[Index, ...]

    def position(self, o: Sequence[Index], k: Sequence[Index]) -> list[Index]:
        """The input position that element `k` of window `o` covers, outside [0, size) in the padding."""
        return [
            i * s + j * d - p if not (isinstance(p, int) and p == 0) else i * s + j * d
            for i, j, s, d, p in zip(o, k, self.stride, self.dilation, self.before, strict=True)
        ]

    def inside(self, at: Sequence[Index]) -> tirx.Expr:
        """Whether a position lies in the input, not in the padding. Axes that cannot leave it are not tested."""
        tests: list[tirx.Expr | bool] = []
        for x, size, out, k, s, d, p in zip(
            at, self.size, self.out, self.kernel, self.stride, self.dilation, self.before, strict=True
        ):
            last = simplify((out - 1) * s + (k - 1) * d - p - size)
            tests.append(True if isinstance(p, int) and p <= 0 else as_expr(x) >= 0)
            tests.append(True if isinstance(last, int) and last < 0 else as_expr(x) < as_expr(size))
        return both(tests)

    def covered(self, o: Sequence[Index], padded: bool) -> Index:
        """How many elements of window `o` lie in the input (padded: or in its padding)."""
        count: Index = 1
        for i, size, k, s, d, p, q in zip(
            o, self.size, self.kernel, self.stride, self.dilation, self.before, self.after, strict=True
        ):
            low, high = (-p, size + q) if padded else (0, size)
            first = clamp(ceildiv(low - i * s + p, d), 0, k)
            end = clamp(ceildiv(high - i * s + p, d), 0, k)
            count = count * (end - first)
        return count


def window(node: Node, size: Sequence[Index], kernel: Sequence[int], ceil: bool = False) -> Window:
    """The windows that a node's attributes strides, dilations, pads, auto_pad ask for over an input of `size`."""
    rank = len(size)
    if len(kernel) != rank:
        raise Unsupported(f"kernel of {len(kernel)} axes over {rank} spatial axes")
    stride = tuple(node.attr("strides") or [1] * rank)
    dilation = tuple(node.attr("dilations") or [1] * rank)
    pads = list(node.attr("pads") or [0] * (2 * rank))
    auto = node.attr("auto_pad", "NOTSET")
    before: list[Index] = []
    after: list[Index] = []
    out: list[Index] = []
    for axis, (n, k, s, d) in enumerate(zip(size, kernel, stride, dilation, strict=True)):
        reach = (k - 1) * d + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            count = ceildiv(n, s)
            missing = (count - 1) * s + reach - n
            if isinstance(missing, int):
                missing = max(missing, 0)
            else:
                missing = simplify(tirx.max(missing, as_expr(0, "int64")))
            small = floordiv(missing, 2)
            low, high = (small, missing - small) if auto == "SAME_UPPER" else (missing - small, small)
        else:
            low, high = (0, 0) if auto == "VALID" else (pads[axis], pads[axis + rank])
            free = n + low + high - reach
            if isinstance(free, int) and free < 0:
                raise Unsupported(f"a window of {reach} over {n + low + high} elements")
            count = floordiv(free, s) + 1
            if ceil and auto == "NOTSET":
                count = ceildiv(free, s) + 1
                if isinstance(count, int) and isinstance(n, int):
                    count -= (count - 1) * s >= n + low  # a window that starts in the padding after is left out
                else:
                    count = count - tirx.Select((count - 1) * s >= n + low, as_expr(1, "int64"), as_expr(0, "int64"))
        before.append(low)
        after.append(high)
        out.append(simplify(count))
    return Window(
        tuple(size), tuple(kernel), stride, dilation, tuple(before), tuple(after), tuple(out)
    )  # fmt: skip
