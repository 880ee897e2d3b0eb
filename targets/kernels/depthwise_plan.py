"""How a depthwise convolution of bytes is cut: which input rows share a lane, how many outputs a tile has."""

from __future__ import annotations

from dataclasses import dataclass

from targets.target import Target

from .byte_lanes import BLOCK, GROUPS
from .conv2d_shape import ConvShape

# cycles beside one of 64 channels: 256-bit work has three ports where 512-bit has two
NARROW_COST = 0.67
TAIL_COST = 4  # instructions of the tail for a vector of sums
SHUFFLE_COST = 3  # of a vector of bytes side by side: two shuffles, which have one port where others have two
LOAD_COST = 0.4  # of a vector loaded: beside arithmetic, nearly free
MAX_TAPS = 81
STACK = 15 << 10


@dataclass(frozen=True)
class Unit:
    """Input rows whose bytes lie side by side in a lane, as offsets from the first row a band of outputs reads."""

    rows: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """One multiplication: a unit, the output row it adds to, the kernel row of each of the unit's rows (or None)."""

    unit: int
    row: int
    taps: tuple[int | None, ...]


@dataclass(frozen=True)
class RowPlan:
    """A band of `rows` output rows: its units and products."""

    rows: int
    units: tuple[Unit, ...]
    products: tuple[Product, ...]


@dataclass(frozen=True)
class Plan:
    """`band`: the rows; `pixels` of a tile, `strip` output columns whose inputs are interleaved at once."""

    band: RowPlan
    pixels: int
    strip: int


def row_plan(s: ConvShape, rows: int, per_lane: int) -> RowPlan:
    """Units of `per_lane` input rows for a band of `rows` output rows."""
    stride, dilation = s.strides[0], s.dilations[0]
    read = sorted({r * stride + t * dilation for r in range(rows) for t in range(s.kernel[0])})
    units = [tuple(read[i : i + per_lane]) for i in range(0, len(read), per_lane)]
    products = []
    for u, unit in enumerate(units):
        for r in range(rows):
            found = [divmod(at - r * stride, dilation) for at in unit]
            taps = tuple(t if not odd and 0 <= t < s.kernel[0] else None for t, odd in found)
            if any(t is not None for t in taps):
                products.append(Product(u, r, taps))
    return RowPlan(rows, tuple(Unit(u) for u in units), tuple(products))


def make_plan(s: ConvShape, target: Target, per_lane: int, config: dict[str, int]) -> Plan | None:
    """Sizes by a count of instructions; `config` may set rows and pixels. None where not even a tile fits the stack."""
    instructions = 1 if per_lane == 4 else 2

    def cost(plan: Plan) -> float:
        rows, products = plan.band.rows, instructions * s.kernel[1] * len(plan.band.products)
        strips = -(-s.out_width // plan.strip)
        tiles = strips * -(-plan.strip // plan.pixels)
        shuffles = SHUFFLE_COST * len(plan.band.units) * columns_of(s, plan.strip) * strips
        loads = LOAD_COST * (s.kernel[1] * len(plan.band.products) + len(plan.band.units) * columns_of(s, plan.pixels))
        return -(-s.out_height // rows) * (shuffles + tiles * (plan.pixels * (products + TAIL_COST * rows) + loads))

    heights = [config["rows"]] if "rows" in config else range(1, min(4, s.out_height) + 1)
    plans = []
    for band in (row_plan(s, min(r, s.out_height), per_lane) for r in heights):
        # a group's sums, those of the two before it packed and of the one before it; where weights are loaded all the
        # time anyway, the last may lie in memory
        held = 3 if s.kernel[1] * len(band.products) <= target.registers // 2 else 2
        room = max(1, (target.registers - 7 + (3 - held) * 3) // (held * band.rows))
        widths = [config["pixels"]] if "pixels" in config else range(1, room + 1)
        for pixels in sorted({min(p, s.out_width) for p in widths}):
            strip = strip_of(s, pixels, band, target.vector_bytes)
            plans += [Plan(band, pixels, strip)] if strip else []
    return min(plans, key=cost, default=None)


def columns_of(s: ConvShape, outputs: int) -> int:
    """Input columns that `outputs` neighbouring outputs read."""
    return (outputs - 1) * s.strides[1] + (s.kernel[1] - 1) * s.dilations[1] + 1


def scratch_bytes(s: ConvShape, strip: int, pixels: int, band: RowPlan, width: int) -> int:
    """Bytes of a strip's interleaved columns and a tile's sums."""
    return (columns_of(s, strip) * len(band.units) + pixels * band.rows) * GROUPS * width


def strip_of(s: ConvShape, pixels: int, band: RowPlan, width: int) -> int:
    """Output columns of a strip: even shares within the stack; 0 where not even a tile fits."""
    for strips in range(1, s.out_width + 1):
        strip = max(pixels, -(-s.out_width // strips))
        if scratch_bytes(s, strip, pixels, band, width) <= STACK:
            return strip
        if strip == pixels:
            break
    return 0


def channel_pieces(channels: int, widest: int) -> list[tuple[int, tuple[int, ...]]]:
    """(width, first channels): pieces that cover all channels, the last one moved back to end with them."""
    width = widest
    while width > channels:
        width //= 2
    assert width >= BLOCK, channels
    whole, rest = divmod(channels, width)
    starts = tuple(range(0, whole * width, width))
    narrow = next((w for w in (BLOCK, 2 * BLOCK) if rest and rest <= w < width), None)
    if narrow:
        return [(width, starts), (narrow, (channels - narrow,))]
    return [(width, (*starts, channels - width) if rest else starts)]
