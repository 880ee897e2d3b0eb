"""Sums of bytes over windows in NHWC: vectors along the channels, in 16 bits as long as these cannot overflow."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .registry import Call, template
from .stage import Stage
from .tensor import simplify
from .tiles import chunks

UNROLL = 4  # vectors of sums at once
NARROW = 256  # pixels whose sum 16 bits surely hold: 256 * 255 < 2^16, 256 * -128 = -2^15


@template("edgert.SumPool2d")
def sum_pool_2d(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] uint8 or int8 -> int32 [N, OH, OW, C]; attrs kernel_shape, strides, dilations. No padding."""
    x = call.need(0)
    sizes = (*x.shape[1:], *call.outputs[0].shape[1:])
    if x.dtype not in ("uint8", "int8") or x.ndim != 4 or not all(isinstance(s, int) and s > 0 for s in sizes):
        return None
    if not call.attrs.get("kernel_shape") or any(call.attrs.get("pads") or ()):
        return None
    axes = tuple(_Axis.of(call, i) for i in (0, 1))
    for axis, extent, out in zip(axes, sizes[:2], sizes[3:5], strict=True):
        if (out - 1) * axis.stride + (axis.size - 1) * axis.dilation >= extent:
            return None
    return [_Kernel(call, axes, target).stage()]


@dataclass(frozen=True)
class _Axis:
    """A window along one axis."""

    size: int
    stride: int
    dilation: int

    @staticmethod
    def of(call: Call, axis: int) -> _Axis:
        a = call.attrs
        strides, dilations = a.get("strides") or (1, 1), a.get("dilations") or (1, 1)
        return _Axis(int(a["kernel_shape"][axis]), int(strides[axis]), int(dilations[axis]))


class _Kernel:
    def __init__(self, call: Call, axes: tuple[_Axis, ...], target: Target) -> None:
        self.call, self.rows, self.columns = call, *axes
        x = call.need(0)
        self.channels = int(x.shape[3])
        narrow = self.columns.size <= NARROW
        self.partial = x.dtype.replace("8", "16") if narrow else "int32"
        self.block = min(self.rows.size, NARROW // self.columns.size) if narrow else self.rows.size
        self.lanes, self.wide = target.lanes(self.partial), target.lanes("int32")
        self.b = Builder(f"sum_pool_nhwc_{x.dtype}_{self.rows.size}x{self.columns.size}_{target.isa}")
        self.x, self.out = self.b.arg(x), self.b.arg(call.result)

    def stage(self) -> Stage:
        """Tasks are output pixels x groups of channels."""
        b, group = self.b, UNROLL * self.lanes
        batch, height, width, _ = self.call.outputs[0].shape
        whole, rest = divmod(self.channels, group)
        count = whole + bool(rest)
        taps = self.rows.size * self.columns.size
        with b, b.parallel(simplify(batch * (height * width * count)), grain=max(1, (1 << 15) // (taps * group))) as p:
            part, pixel = b.let(p % count), b.let(p // count)
            at = b.let(pixel // (height * width)), b.let(pixel // width % height), b.let(pixel % width)
            if whole and rest:
                with b.when(part < whole):
                    self.window(at, b.let(part * group), self.lanes, UNROLL)
                with b.otherwise():
                    self.narrower(at, whole * group, rest)
            elif whole:
                self.window(at, b.let(part * group), self.lanes, UNROLL)
            else:
                self.narrower(at, 0, rest)
        return b.stage()

    def narrower(self, at: tuple, start: int, count: int) -> None:
        """Fewer channels than a whole group."""
        for offset, width in chunks(count, self.lanes):
            self.window(at, tirx.const(start + offset, "int64"), width, 1)

    def window(self, at: tuple, start: tirx.Expr, lanes: int, vectors: int) -> None:
        """The sums of lanes * vectors channels from `start`, stored through the tail."""
        b, (n, row, column), count = self.b, at, lanes * vectors
        total, wide = b.local((count,), "int32"), min(self.wide, lanes)
        with b.unroll(count // wide) as u, b.vector(wide) as v:
            b.store(total, u * wide + v, tirx.const(0, "int32"))
        blocks, odd = divmod(self.rows.size, self.block)
        y, x = b.let(row * self.rows.stride), b.let(column * self.columns.stride)
        with b.serial(blocks, "block") as block:
            line = b.let(y + block * (self.block * self.rows.dilation))
            self.add(total, (n, line, x), self.block, start, lanes, vectors)
        if odd:
            self.add(total, (n, y + blocks * self.block * self.rows.dilation, x), odd, start, lanes, vectors)
        with b.unroll(count // wide) as u, b.vector(wide) as v:
            place = n, row, column, start + u * wide + v
            b.bind(self.call.outputs[0], lambda *_: total[u * wide + v])
            b.share(place, self.call.result.shape)
            b.store(self.out, place, self.call.final(*place))

    def add(self, total: tirx.Var, corner: tuple, rows: int, start: tirx.Expr, lanes: int, vectors: int) -> None:
        """total += the sums of `rows` rows of the window from the pixel at `corner`."""
        b, (n, y, x), wide = self.b, corner, min(self.wide, lanes)
        part = b.local((lanes * vectors,), self.partial)
        with b.unroll(vectors) as u, b.vector(lanes) as v:
            b.store(part, u * lanes + v, tirx.const(0, self.partial))
        with b.serial(rows, "row") as i, b.serial(self.columns.size, "column") as j:
            line, place = b.let(y + i * self.rows.dilation), b.let(x + j * self.columns.dilation)
            with b.unroll(vectors) as u, b.vector(lanes) as v:
                c = u * lanes + v
                b.store(part, c, part[c] + self.x[n, line, place, start + c].astype(self.partial))
        with b.unroll(lanes * vectors // wide) as u, b.vector(wide) as v:
            c = u * wide + v
            b.store(total, c, total[c] + part[c].astype("int32"))
