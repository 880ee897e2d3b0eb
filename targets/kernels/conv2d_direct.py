"""Direct convolution: a register tile of neighbouring output pixels x output channels, summed over the kernel window.

The window's row loop is cut to the rows inside the image. Along a row, tiles that touch the left or right border are
emitted apart with the pixels that each kernel column reaches, so no loop tests for the border.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape, kernel_rows
from .packing import pack_panels
from .registry import Call
from .stage import Const, Leaf, Stage
from .tensor import Index, Tensor, simplify
from .tiles import Tile, choose_tile
from .tiles_emit import clear, reduce_into, store_tile

Pair = tuple[int, int]
MAX_BORDER_TILES = 3  # more are a sign of a wide window: padding the input into a buffer is cheaper than their code


def pick_tile(call: Call, s: ConvShape, target: Target) -> Tile:
    """The tile of the tuning records, else the cost model's."""
    lanes = target.lanes("float32")
    if "mr" in call.config:
        return Tile(call.config["mr"], call.config["nr"] // lanes, lanes)
    return choose_tile(s.out_width, s.group_out, s.depth, target, s.out_height, max_rows=14)


def packed_weights(w: Tensor, s: ConvShape, width: int) -> Const:
    """[O, I/g, kH, kW] -> [g * panels, kH * kW * I/g, width]."""
    panels = -(-s.group_out // width)

    def make() -> np.ndarray:
        data = np.asarray(w.data()).reshape(s.group, s.group_out, s.group_in, *s.kernel)  # type: ignore[misc]
        groups = data.transpose(0, 3, 4, 2, 1).reshape(s.group, s.depth, s.group_out)
        return np.concatenate([pack_panels(g, width) for g in groups])

    key = f"{w.name}:conv:g{s.group}:panels{width}"
    return Const((s.group * panels, s.depth, width), w.dtype, make, key, f"{w.name}_packed")


def direct(
    call: Call, x: Leaf, weights: Const, s: ConvShape, tile: Tile, target: Target, kernel: str,
    put: tuple[Pair, Pair] = ((1, 0), (1, 0)),
) -> Stage:  # fmt: skip
    """The stage that convolves `x` (a leaf of the shape in `s`) and stores the result through the fused tail.

    put: (step, start) along height and width: output (oh, ow) is element (step * oh + start, step * ow + start) of the
    result. Pads may be negative (cropped input).
    """
    (_, kw), (sh, sw), (dh, dw) = s.kernel, s.strides, s.dilations
    top, left = s.pads[0], s.pads[1]
    panels = -(-s.group_out // tile.cols)
    last_cols = s.group_out - (panels - 1) * tile.cols
    rows = rows_of_task(s, tile, panels, target)
    bands = -(-s.out_height // rows)
    b = Builder(f"{kernel}_nhwc_f32_{tile.rows}x{tile.cols}_{target.name.split('-')[-1]}")
    with b:
        image = b.arg(x, (s.batch * s.height, s.width * s.channels))
        w, out = b.arg(weights), b.arg(call.result)

        def accumulate(acc: tirx.Var, rows: range, depth: int, at: tuple, weights_at: tuple) -> None:
            (line, base), (group, panel, start) = at, weights_at
            reduce_into(
                b, acc, rows, tile, depth, lambda i, k: image[line, base + (i * sw * s.channels + k)],
                lambda k, c: w[group * panels + panel, start + k, c],
            )  # fmt: skip

        def window_row(acc: tirx.Var, line: tirx.Expr, tap: tirx.Expr, first: Index, count: int, at: tuple) -> None:
            """Adds kernel row `tap`, which reads image row `line`, to the tile of `count` pixels from `first`."""
            group, panel = at
            # neighbouring kernel columns lie side by side in memory: those that reach the same pixels are one long run
            merge = dw == 1 and s.group == 1
            known = isinstance(first, int)
            reach = [s.reach(k, first, count) if known else range(count) for k in range(kw)]
            for _, run in groupby(range(kw), lambda k: (reach[k], 0 if merge else k)):
                columns = list(run)
                base = b.let((first * sw + (columns[0] * dw - left)) * s.channels + group * s.group_in)
                start = b.let((tap * kw + columns[0]) * s.group_in)
                accumulate(acc, reach[columns[0]], len(columns) * s.group_in, (line, base), (group, panel, start))

        def pixels(n: tirx.Expr, oh: tirx.Expr, first: Index, count: int, at: tuple, width: int) -> None:
            acc = clear(b, count, tile)
            low, extent = kernel_rows(b, s, oh)
            with b.serial(extent, "kh", low) as tap:
                window_row(acc, b.let(n * s.height + oh * sh + (tap * dh - top)), tap, first, count, at)
            group, panel = at
            channel = b.let(group * s.group_out + panel * tile.cols)

            def write(value: tirx.Expr, i: tirx.Expr, c: tirx.Expr) -> None:
                place = (n, oh * put[0][0] + put[0][1], (first + i) * put[1][0] + put[1][1], channel + c)
                b.bind(call.outputs[0], lambda *_: value)
                b.share(place, call.result.shape)
                b.store(out, place, call.final(*place))

            store_tile(b, acc, count, width, tile, write)

        def band(n: tirx.Expr, first_row: tirx.Expr, at: tuple, width: int) -> None:
            before, inner, after = s.border_tiles(tile.rows)
            with b.serial(b.let(tirx.min(tirx.const(rows, "int64"), s.out_height - first_row)), "row") as r:
                oh = b.let(first_row + r)
                for first in before:
                    pixels(n, oh, first, min(tile.rows, s.out_width - first), at, width)
                if len(inner):
                    with b.serial(len(inner), "tile") as t:
                        pixels(n, oh, b.let((t + inner.start) * tile.rows), tile.rows, at, width)
                for first in after:
                    pixels(n, oh, first, min(tile.rows, s.out_width - first), at, width)

        with b.parallel(simplify(s.batch * (bands * s.group * panels))) as p:
            panel = b.let(p % panels)
            group = b.let(p // panels % s.group) if s.group > 1 else tirx.const(0, "int64")
            first_row = b.let(p // (panels * s.group) % bands * rows)
            n = b.let(p // (panels * s.group * bands))
            if last_cols == tile.cols or panels == 1:
                band(n, first_row, (group, panel), last_cols)
            else:
                with b.when(panel < panels - 1):
                    band(n, first_row, (group, panel), tile.cols)
                with b.otherwise():
                    band(n, first_row, (group, panel), last_cols)
    return b.stage(once=True)


def rows_of_task(s: ConvShape, tile: Tile, panels: int, target: Target) -> int:
    """Output rows of one task: even shares for two and four threads, and the input rows it reads within half of L2."""
    fit = max(1, target.l2_bytes // 2 // max(1, s.strides[0] * s.width * s.channels * 4))
    others = s.group * panels

    def cost(rows: int) -> float:
        tasks = -(-s.out_height // rows) * others
        two, four = (-(-tasks // n) * n * rows / (s.out_height * others) for n in (2, 4))
        return two + 0.25 * four + tasks * 1e-3

    return min(range(1, min(s.out_height, fit) + 1), key=cost)
