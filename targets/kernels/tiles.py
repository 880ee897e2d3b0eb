"""Register tiles: how many output rows and vectors one inner loop holds in registers, chosen from a simple cost model.

A tile of `rows` x `vecs` needs rows*vecs accumulators, vecs registers for weights and one for the broadcast operand.
Its inner step costs the largest of: the multiply-adds over two FMA ports, the loads over two load ports, the latency of
one FMA, and the weights' stream from L2 when the packed panel does not stay in L1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from targets.target import Target

FMA_PORTS = 2
FMA_LATENCY = 4
L2_BYTES_PER_CYCLE = 32
TILE_OVERHEAD = 12  # cycles to set up one tile, besides its stores
TYPICAL_ROWS = 128  # what a symbolic number of rows is taken for


@dataclass(frozen=True)
class Tile:
    """`rows` output rows (or pixels) x `vecs` vectors of `lanes` channels."""

    rows: int
    vecs: int
    lanes: int

    @property
    def cols(self) -> int:
        """Channels a tile covers."""
        return self.vecs * self.lanes

    @property
    def accumulators(self) -> int:
        """Vector registers that hold sums."""
        return self.rows * self.vecs


def tiles_for(target: Target, lanes: int, max_rows: int = 16, max_vecs: int = 8) -> Iterator[Tile]:
    """Every tile that fits the target's registers without spilling, up to `max_rows` rows and `max_vecs` vectors."""
    for vecs in range(1, max_vecs + 1):
        limit = (target.registers - vecs - 1) // vecs
        for rows in range(1, min(limit, max_rows) + 1):
            yield Tile(rows, vecs, lanes)


def step_cycles(rows: int, vecs: int, panel_bytes: int, target: Target) -> float:
    """Cycles of one reduction step of a tile (rough; for comparing tiles, not for predicting time)."""
    fma = rows * vecs / FMA_PORTS
    # with one vector the broadcasts fold into the multiply-adds, which then issue at about 0.85 of the rate (measured)
    loads = (rows + vecs) / 2 if vecs > 1 else rows / FMA_PORTS / 0.85
    stream = vecs * target.vector_bytes / L2_BYTES_PER_CYCLE if panel_bytes > target.l1_bytes * 0.6 else 0.0
    return max(fma, loads, FMA_LATENCY, stream) + 0.5


def tile_cycles(rows: int, tile: Tile, depth: int, target: Target) -> float:
    """Cycles of a whole tile with `rows` rows in use and a reduction of `depth` steps."""
    panel = depth * tile.cols * 4
    return depth * step_cycles(rows, tile.vecs, panel, target) + TILE_OVERHEAD + 2 * rows * tile.vecs


def total_cycles(tile: Tile, rows: int, cols: int, depth: int, target: Target, repeats: int = 1) -> float:
    """Cycles for a [rows, depth] x [depth, cols] product, done `repeats` times."""
    panels = -(-cols // tile.cols)
    full, tail = divmod(rows, tile.rows)
    one = full * tile_cycles(tile.rows, tile, depth, target)
    if tail:
        one += tile_cycles(tail, tile, depth, target)
    return repeats * panels * one


def choose_tile(
    rows: int, cols: int, depth: int, target: Target, repeats: int = 1, max_rows: int = 16, max_vecs: int = 8
) -> Tile:
    """The cheapest tile for a product of these sizes by the cost model."""
    lanes = target.lanes("float32")
    best = min(
        tiles_for(target, lanes, max_rows, max_vecs),
        key=lambda t: (total_cycles(t, rows, cols, depth, target, repeats), abs(t.rows - 4 * t.vecs)),
    )
    return Tile(min(best.rows, rows), best.vecs, lanes)


def near_best(
    rows: int, cols: int, depth: int, target: Target, repeats: int = 1, count: int = 8, max_rows: int = 16
) -> list[Tile]:
    """The `count` cheapest tiles by the cost model: what a tuner should measure."""
    lanes = target.lanes("float32")
    found = {
        Tile(min(t.rows, rows), t.vecs, lanes): total_cycles(t, rows, cols, depth, target, repeats)
        for t in tiles_for(target, lanes, max_rows)
    }
    return sorted(found, key=lambda t: found[t])[:count]


def chunks(count: int, lanes: int) -> list[tuple[int, int]]:
    """(offset, width) pieces of `count` elements: whole vectors, then powers of two, each one instruction."""
    pieces, offset, width = [], 0, lanes
    while offset < count:
        while width > count - offset:
            width //= 2
        pieces.append((offset, width))
        offset += width
    return pieces
