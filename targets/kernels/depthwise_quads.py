"""Depthwise convolution of bytes by multiply-add instructions that sum neighbouring bytes of a lane.

The bytes side by side in a lane are one channel of rows below each other. A strip of input columns is interleaved so
once, for a band of output rows; columns and rows outside the image are filled in there, so no tile is special. One
multiplication then adds all kernel rows of one kernel column; the next output row takes the same data times the weights
moved down. Bands, strips and channels end with the output: the last ones move back and compute some of it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tvm import tirx

from targets.target import Target

from .aligned import aligned_local
from .builder import Builder
from .byte_lanes import BLOCK, GROUPS, interleave, pack_bytes, pack_words
from .conv2d_shape import ConvShape
from .depthwise_pack import PiecePacking
from .depthwise_plan import MAX_TAPS, Plan, channel_pieces, columns_of, make_plan, scratch_bytes
from .dot import dot_of, load_vector, store_vector
from .registry import Call
from .requantize import Requantization, packed_requantization
from .stage import Stage
from .tensor import Tensor, simplify

PER_LANE = {"vpdpbusd": 4, "pmaddwd": 2, "sdot": 4, "usdot": 4}  # rows in a lane: bytes, or 16 bits each


def fits(s: ConvShape, target: Target, config: dict[str, int]) -> bool:
    """Whether this kernel takes a convolution on this target."""
    if target.dot not in PER_LANE or s.channels < BLOCK or s.kernel[0] * s.kernel[1] > MAX_TAPS:
        return False
    return make_plan(s, target, PER_LANE[target.dot], config) is not None


class QuadKernel:
    """One kernel. A place is (image, first output row), a piece (number of the channels, first channel)."""

    def __init__(self, call: Call, x: Tensor, w: Tensor, zero: Tensor, s: ConvShape, target: Target) -> None:
        self.call, self.s, self.target, self.w = call, s, target, w
        self.per_lane = PER_LANE[target.dot]
        plan = make_plan(s, target, self.per_lane, call.config)
        assert plan is not None, "ask fits first"
        self.plan: Plan = plan
        self.arm = target.triple.startswith("aarch64")
        self.signed = x.dtype == "int8"
        self.moved = self.signed != self.arm  # whether bytes are counted from the other end of their range
        self.tail: Requantization | None = packed_requantization(call, s.kernel[0] * s.kernel[1])
        kind = f"depthwise{s.kernel[0]}x{s.kernel[1]}_nhwc_{'s8' if self.signed else 'u8'}s8"
        self.b = b = Builder(f"{kind}_{self.plan.band.rows}x{self.plan.pixels}x{target.vector_bytes}_{target.isa}")
        self.image = b.arg(x, (simplify(s.batch * s.height), s.width, s.channels))
        self.zero, self.zero_rank, self.out = b.arg(zero), max(1, zero.ndim), b.arg(call.result)

    def stage(self) -> Stage:
        """Tasks are bands of output rows x pieces of the channels."""
        b, s = self.b, self.s
        pieces = channel_pieces(s.channels, self.target.vector_bytes)
        count = sum(len(starts) for _, starts in pieces)
        bands = -(-s.out_height // self.plan.band.rows)
        with b, b.parallel(simplify(s.batch * (bands * count)), grain=count) as p:
            piece, band = b.let(p % count), b.let(p // count % bands)
            row = b.let(tirx.min(band * self.plan.band.rows, tirx.const(s.out_height - self.plan.band.rows, "int64")))
            place = b.let(p // (count * bands)), row
            width = pieces[0][0]
            size = scratch_bytes(s, self.plan.strip, 0, self.plan.band, width)
            self.columns = aligned_local(b, (size,), "uint8")
            if self.tail is None:
                self.sums = aligned_local(b, (self.plan.pixels * self.plan.band.rows, GROUPS * (width // 4)), "int32")
            # zero, which LLVM does not know: it would write loops out and run short of registers
            self.nothing = b.let(tirx.shift_right(p, tirx.const(40, "int64")))
            self.pad = b.let(self._pad_byte())
            if len(pieces) == 1:
                _Piece(self, *pieces[0]).emit(place, piece)
            else:
                with b.when(piece < count - 1):
                    _Piece(self, *pieces[0]).emit(place, piece)
                with b.otherwise():
                    _Piece(self, *pieces[1]).emit(place, tirx.const(0, "int64"))
        return b.stage()

    def _pad_byte(self) -> tirx.Expr:
        byte = self.zero[(0,) * self.zero_rank].astype("uint8")
        return byte ^ tirx.const(128, "uint8") if self.moved else byte


class _Piece:
    """The code for pieces of `width` channels."""

    def __init__(self, kernel: QuadKernel, width: int, starts: Sequence[int]) -> None:
        self.k, self.b, self.s, self.plan = kernel, kernel.b, kernel.s, kernel.plan
        self.width, self.starts, self.lanes = width, tuple(starts), width // 4
        self.dot = dot_of(kernel.target, self.lanes)
        self.step = GROUPS * width * len(self.plan.band.units)  # bytes of one interleaved column
        packing, tail = PiecePacking(kernel.s, width, self.starts), kernel.tail
        self.weights = self.b.arg(packing.weights(kernel.w, self.plan.band, kernel.per_lane))
        by = 128 if kernel.arm else -128
        start = packing.start(kernel.w if kernel.moved else None, tail.bias if tail else None, by)
        self.start = self.b.arg(start) if start else None
        if tail:
            self.scales = self.b.arg(packing.per_channel(tail.multiplier, "float32"))

    def emit(self, place: tuple, piece: tirx.Expr) -> None:
        """One band of one piece, strip by strip."""
        b, s, plan = self.b, self.s, self.plan
        first = b.let(tirx.min(piece * self.width, tirx.const(self.starts[-1], "int64")))
        if len(self.starts) == 1:
            first = tirx.const(self.starts[0], "int64")
        strips = -(-s.out_width // plan.strip)
        with b.serial(strips, "strip") as strip:
            at = b.let(tirx.min(strip.astype("int64") * plan.strip, tirx.const(s.out_width - plan.strip, "int64")))
            self._interleave(place, first, at)
            with b.serial(b.let(self.k.nothing + -(-plan.strip // plan.pixels)), "tile") as tile:
                here = b.let(tirx.min(tile * plan.pixels, tirx.const(plan.strip - plan.pixels, "int64")))
                # zero, but not for LLVM: it would take all weights out of the loop and onto the stack
                piece_here = b.let(piece + tirx.shift_right(tile, tirx.const(40, "int64")))
                if self.k.tail:
                    self._packed_tile(self.k.tail, place, piece_here, first, at, here)
                else:
                    with b.serial(b.let(self.k.nothing + GROUPS), "group") as group:
                        self._spread(self._sum(piece_here, group, here), group)
                    self._finish(place, first, b.let(at + here))

    def _interleave(self, place: tuple, first: tirx.Expr, at: tirx.Expr) -> None:
        """The input columns of the strip at output column `at` into self.k.columns."""
        b, s, (n, row) = self.b, self.s, place
        top, left, bottom, right = s.pads
        y, x = b.let(row * s.strides[0] - top), b.let(at * s.strides[1] - left)
        begin, end = tirx.const(0, "int64"), tirx.const(columns_of(s, self.plan.strip), "int64")
        low, high = begin, end
        if left or right:
            low = b.let(tirx.min(tirx.max(-x, begin), end))
            high = b.let(tirx.max(tirx.min(s.width - x, end), low))
            with b.serial(b.let(low - begin), "outside", begin) as column:
                self._fill(column)
            with b.serial(b.let(end - high), "outside", high) as column:
                self._fill(column)
        span = self.plan.band.units[-1].rows[-1]
        base = b.let(n * s.height)
        columns = partial(self._columns, base, y, x, first, low, b.let(high - low))
        if not top and not bottom:
            columns(False)
            return
        with b.when(tirx.all(y >= 0, y + span < s.height)):
            columns(False)
        with b.otherwise():
            columns(True)

    def _fill(self, column: tirx.Expr) -> None:
        """A column outside the image."""
        if self.k.per_lane == 4:
            value = tirx.Broadcast(self.k.pad, self.width)
        else:
            words = tirx.Broadcast(self.k.pad.astype("uint16"), self.width // 2)
            value = tirx.reinterpret(f"uint8x{self.width}", words)
        for i in range(self.step // self.width):
            store_vector(self.b, self.k.columns, value, self.b.let(column * self.step + i * self.width))

    def _columns(
        self, base: tirx.Expr, y: tirx.Expr, x: tirx.Expr, first: tirx.Expr, low: tirx.Expr, count: tirx.Expr,
        edge: bool,
    ) -> None:  # fmt: skip
        """Columns low..low+count-1 of the strip, all inside the image; edge: some rows are not."""
        b, s = self.b, self.s
        lines: dict[int, tuple] = {}
        for unit in self.plan.band.units:
            for offset in unit.rows:
                line = b.let(y + offset)
                inside = tirx.all(line >= 0, line < s.height) if edge else None
                if edge:
                    line = b.let(tirx.max(tirx.min(line, tirx.const(s.height - 1, "int64")), tirx.const(0, "int64")))
                mask = None
                if inside is not None:
                    mask = b.let(tirx.Select(inside, tirx.const(255, "uint8"), tirx.const(0, "uint8")))
                lines[offset] = b.let(base + line), mask
        with b.serial(count, "column", low) as column:
            rows = {offset: self._row(line, b.let(x + column), first, mask) for offset, (line, mask) in lines.items()}
            for u, unit in enumerate(self.plan.band.units):
                for g, group in enumerate(interleave(b, self._side_by_side([rows[o] for o in unit.rows]), self.width)):
                    to = b.let(column * self.step + (u * GROUPS + g) * self.width)
                    store_vector(b, self.k.columns, group, to)

    def _row(self, line: tirx.Expr, x: tirx.Expr, first: tirx.Expr, mask: tirx.Expr | None) -> tirx.Expr:
        """The bytes of one pixel; where the mask is 0, the pad's."""
        value = load_vector(self.k.image, line, x, first, count=self.width)
        if self.k.signed:
            value = tirx.reinterpret(f"uint8x{self.width}", value)
        if self.k.moved:
            value = value ^ tirx.Broadcast(tirx.const(128, "uint8"), self.width)
        if mask is not None:
            outside = tirx.Broadcast(self.k.pad & (mask ^ tirx.const(255, "uint8")), self.width)
            value = (value & tirx.Broadcast(mask, self.width)) | outside
        return self.b.let(value)

    def _side_by_side(self, rows: list) -> list:
        """The four operands of the interleaving; rows that a unit lacks meet weights of zero."""
        rows = rows + [rows[-1]] * (self.k.per_lane - len(rows))
        if self.k.per_lane == 4:
            return rows
        nothing = tirx.Broadcast(tirx.const(0, "uint8"), self.width)
        return [rows[0], nothing, rows[1], nothing]

    def _sum(self, piece: tirx.Expr, group: tirx.Expr, tile: tirx.Expr) -> dict[tuple[int, int], tirx.Expr]:
        """The sums of one group of channels for a tile of pixels, by output row and pixel."""
        b, s, plan = self.b, self.s, self.plan
        zero = tirx.const(0, "int64")
        begin = tirx.Broadcast(tirx.const(0, "int32"), self.lanes)
        if self.start is not None:
            begin = b.let(load_vector(self.start, piece, group, zero, count=self.lanes))
        acc = {(r, i): begin for r in range(plan.band.rows) for i in range(plan.pixels)}
        stride, dilation = s.strides[1], s.dilations[1]
        taps = range(s.kernel[1])
        few = s.kernel[1] * len(plan.band.products) <= self.k.target.registers // 2
        # with few weights all stay in registers and data is loaded once; else those of one kernel column at a time
        order = (
            [(i * stride + k * dilation, k, i) for k in taps for i in range(plan.pixels)]
            if not few
            else sorted((i * stride + k * dilation, k, i) for k in taps for i in range(plan.pixels))
        )
        loaded: dict[tuple[int, int], tirx.Expr] = {}
        weights: dict[tuple[int, int], tirx.Expr] = {}
        wide = self.lanes * self.k.per_lane
        for column, k, i in order:
            for p, product in enumerate(plan.band.products):
                at = column, product.unit
                if at not in loaded:
                    where = (tile * stride + column) * self.step + (group + product.unit * GROUPS) * self.width
                    loaded[at] = b.let(self._operand(load_vector(self.k.columns, where, count=self.width)))
                if (k, p) not in weights:
                    column_of, number = tirx.const(k, "int64"), tirx.const(p, "int64")
                    weights[k, p] = b.let(load_vector(self.weights, piece, group, column_of, number, zero, count=wide))
                key = product.row, i
                acc[key] = b.let(self.dot.add(acc[key], (loaded[at],), (weights[k, p],)))
        return acc

    def _operand(self, data: tirx.Expr) -> tirx.Expr:
        """A vector of uint8 as the multiplication takes it."""
        return tirx.reinterpret(f"int8x{self.width}" if self.k.per_lane == 4 else f"int16x{self.width // 2}", data)

    def _packed_tile(
        self, tail: Requantization, place: tuple, piece: tirx.Expr, first: tirx.Expr, at: tirx.Expr, here: tirx.Expr
    ) -> None:
        """A tile through its requantization, group by group, all in registers."""
        b, (n, row) = self.b, place
        words: dict[tuple[int, int], list[tirx.Expr]] = {}
        for g in range(GROUPS):
            group = tirx.const(g, "int64")
            scale = b.let(load_vector(self.scales, piece, group, tirx.const(0, "int64"), count=self.lanes))
            for key, total in self._sum(piece, group, here).items():
                scaled = total.astype(f"float32x{self.lanes}") * scale
                # to nearest even, as the processor's mode is
                nearest = "llvm.aarch64.neon.fcvtns.v4i32.v4f32" if self.k.arm else "llvm.lrint"
                rounded = b.let(tirx.call_llvm_pure_intrin(f"int32x{self.lanes}", nearest, scaled))
                held = words.setdefault(key, [])
                if g % 2:
                    rounded = b.let(pack_words(held.pop(), rounded, self.width, tail.zero, self.k.arm))
                held.append(rounded)
        for (r, i), (low, high) in words.items():
            value = tail.clamped(pack_bytes(low, high, self.width, tail.dtype, self.k.arm), self.width)
            store_vector(b, self.k.out, value, n, row + r, at + here + i, first)

    def _spread(self, sums: dict[tuple[int, int], tirx.Expr], group: tirx.Expr) -> None:
        """Sums of a group into self.k.sums, each channel in its place."""
        for (r, i), value in sums.items():
            for block in range(self.lanes // GROUPS):
                four = [tirx.const(block * GROUPS + c, "int32") for c in range(GROUPS)]
                part = tirx.Shuffle([value], four) if self.lanes > GROUPS else value
                at = tirx.const(r * self.plan.pixels + i, "int64")
                store_vector(self.b, self.k.sums, part, at, group * GROUPS + block * BLOCK)

    def _finish(self, place: tuple, first: tirx.Expr, column: tirx.Expr) -> None:
        """The tile's sums through the tail into the result."""
        b, (n, row) = self.b, place
        for r in range(self.plan.band.rows):
            with b.serial(self.plan.pixels, "pixel") as i:
                sums = b.let(i.astype("int64") + r * self.plan.pixels)
                self._store((n, b.let(row + r), b.let(column + i), first), sums)

    def _store(self, at: tuple, sums: tirx.Expr) -> None:
        b, (n, row, column, first) = self.b, at
        for start in range(0, self.width, self.lanes):
            with b.vector(self.lanes) as v:
                value = self.k.sums[sums, start + v]
                b.bind(self.k.call.outputs[0], lambda *_, value=value: value)
                place = n, row, column, first + start + v
                b.share(place, self.k.call.result.shape)
                b.store(self.k.out, place, self.k.call.final(*place))
