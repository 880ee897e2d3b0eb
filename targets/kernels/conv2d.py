"""Convolution over NHWC with constant weights: matrix product (1x1), depthwise, or direct."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from targets.target import Target

from .arm.conv import arm_conv
from .arm.product import arm_product
from .conv2d_direct import MAX_BORDER_TILES, direct, packed_weights, pick_tile
from .conv2d_pad import padded
from .conv2d_shape import ConvShape, conv_shape
from .depthwise import depthwise, depthwise_space
from .gemm_kernel import matrix_product
from .packing import panel_const
from .registry import Call, template
from .stage import Leaf, Stage
from .tensor import Tensor, simplify
from .tiles import near_best


@template("edgert.Conv2d")
def conv2d(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] * constant W [O, C/group, kH, kW] -> [N, OH, OW, O], float32. Spatial sizes must be static."""
    s = conv_shape(call)
    x, w = call.inputs[0], call.inputs[1]
    if s is None or x is None or w is None or x.dtype != "float32" or w.dtype != "float32":
        return None
    if s.is_matrix:
        rows = simplify(s.batch * (s.height * s.width))
        return arm_product(
            call, target, "conv1x1_nhwc", rows, x, lambda: _as_matrix(np.asarray(w.data())), s.channels,  # type: ignore[misc]
            s.out_channels, f"{w.name}:conv1x1",
        ) or matrix_product(
            call, target, "conv1x1_nhwc", rows, x,
            lambda nr: panel_const(w, _as_matrix, s.channels, s.out_channels, nr, "conv1x1"),
            s.channels, s.out_channels,
        )  # fmt: skip
    if s.is_depthwise:
        return [depthwise(call, x, w, s, target)]
    on_arm = arm_conv(call, target, x, w, s)
    return [on_arm] if on_arm is not None else direct_stages(call, x, w, s, target)


def direct_stages(call: Call, x: Tensor, w: Tensor, s: ConvShape, target: Target) -> list[Stage]:
    """A direct convolution, after a padding copy when the border would take too many special tiles."""
    s, w = merged_groups(s, w, target.lanes("float32"))
    tile = pick_tile(call, s, target)
    source: Leaf = x
    stages = []
    before, _, after = s.border_tiles(tile.rows)
    if len(before) + len(after) > MAX_BORDER_TILES and (s.pads[1] or s.pads[3]):
        stage, source, s = padded(x, s, target)
        stages.append(stage)
    weights = packed_weights(w, s, tile.cols)
    return [*stages, direct(call, source, weights, s, tile, target, f"conv{s.kernel[0]}x{s.kernel[1]}")]


def merged_groups(s: ConvShape, w: Tensor, lanes: int) -> tuple[ConvShape, Tensor]:
    """Neighbouring small groups joined into one with zeros between, as long as they fit one vector of outputs.

    The multiply-adds with zeros fill lanes that would idle otherwise.
    """
    join = 1
    while s.group % (2 * join) == 0 and s.group_out * join * 2 <= lanes:
        join *= 2
    if join == 1:
        return s, w

    def data() -> np.ndarray:
        given = np.asarray(w.data()).reshape(s.group // join, join, s.group_out, s.group_in, *s.kernel)  # type: ignore[misc]
        wide = np.zeros((s.group // join, join, s.group_out, join, s.group_in, *s.kernel), given.dtype)
        for i in range(join):
            wide[:, i, :, i] = given[:, i]
        return wide.reshape(s.out_channels, join * s.group_in, *s.kernel)

    shape = (s.out_channels, join * s.group_in, *s.kernel)
    return replace(s, group=s.group // join), Tensor(shape, w.dtype, f"{w.name}_joined{join}", data=data)


def space(call: Call, target: Target) -> list[dict[str, int]]:
    """Tile sizes worth measuring for a convolution."""
    s = conv_shape(call)
    if s is None:
        return []
    if s.is_depthwise:
        return depthwise_space(s, target)
    if s.is_matrix:
        rows = s.height * s.width * (s.batch if isinstance(s.batch, int) else 1)
        tiles = near_best(rows, s.out_channels, s.channels, target)
    else:
        tiles = near_best(s.out_width, s.group_out, s.depth, target, s.out_height, max_rows=14)
    return [{"mr": t.rows, "nr": t.cols} for t in tiles]


conv2d.space = space  # type: ignore[attr-defined]


def _as_matrix(data: np.ndarray) -> np.ndarray:
    return data.reshape(data.shape[0], -1).T
