"""Attention over a cache of keys and values that outlives the call: rope, append, then every row over all it may see.

Stages: fold_rows (of formats that store old rows anew); rope_append (queries turned, new rows stored); few rows:
cached_attention_decode over pieces of the context, and their reduction; many rows: cached_attention_prefill, or
cached_attention_tiles. Which runs the number of rows decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tvm import tirx

from targets.target import Target

from .cached_attention_decode import combine, partial
from .cached_attention_fold import fold_rows
from .cached_attention_formats import FORMATS
from .cached_attention_prefill import Blocks, prefill
from .cached_attention_tiles import LEAST, TileBlocks, takes
from .registry import Call, template
from .rope_append import rope_append
from .stage import Stage, Temp
from .tensor import Index, as_expr

FEW = 8  # rows up to which the context is split among threads, and not the rows
MOST = 256  # elements of a head: kernels write its vectors out
BLOCK = 64  # keys taken together; the cache has at least as many rows


@dataclass(eq=False)
class Geometry:
    """The sizes of one call. rows: new rows; each: query heads that share a group's keys; size: of a head."""

    call: Call
    target: Target
    rows: Index
    heads: int
    groups: int
    each: int
    size: int
    rotary: int
    capacity: Index
    scale: float
    window: int
    format: str
    interleaved: bool
    lanes: int
    queries: Temp = field(init=False)

    def __post_init__(self) -> None:
        self.queries = Temp((self.groups, self.rows * self.each, self.size), "float32", "queries")


def geometry(call: Call, target: Target) -> Geometry | None:
    """The sizes of a call, None where the kernels do not take it."""
    q, k, cos = (call.need(i) for i in (0, 1, 7))
    heads, groups = int(call.attrs["heads"]), int(call.attrs["groups"])
    lanes = target.lanes("float32")
    if not isinstance(q.shape[1], int) or call.attrs.get("format", "f16") not in FORMATS:
        return None
    kind = FORMATS[call.attrs.get("format", "f16")]
    capacity = kind.capacity(call)
    size = q.shape[1] // heads
    if size % kind.multiple or size > MOST or not isinstance(cos.shape[1], int):
        return None
    if isinstance(capacity, int) and capacity < BLOCK:
        return None
    scale = call.attrs.get("scale")
    return Geometry(
        call, target, k.shape[0], heads, groups, heads // groups, size, 2 * cos.shape[1], capacity,
        size**-0.5 if scale is None else float(scale), int(call.attrs.get("window", 0)),
        call.attrs.get("format", "f16"), bool(call.attrs.get("interleaved", 0)), lanes,
    )  # fmt: skip


@template("edgert.CachedAttention")
def cached_attention(call: Call, target: Target) -> list[Stage] | None:
    """See compiler/ops/cached_attention.py for what it computes. The rows' number and the capacity may be symbolic."""
    g = geometry(call, target)
    if g is None:
        return None
    stages = [fold_rows(g)] if FORMATS[g.format].folds else []
    stages.append(rope_append(g))
    fixed = g.rows if isinstance(g.rows, int) else None
    if fixed is None or fixed <= FEW:
        stages += _few(g, fixed)
    if fixed is None or fixed > FEW:
        stages += _many(g, fixed)
    return stages


def _many(g: Geometry, fixed: int | None) -> list[Stage]:
    if not takes(g):
        return [prefill(g, _where(fixed, g.rows, lambda rows: rows > FEW), Blocks)]
    if fixed is not None:
        return [prefill(g, 1, TileBlocks if fixed >= LEAST else Blocks)]
    most = _where(fixed, g.rows, lambda rows: rows >= LEAST)
    some = _where(fixed, g.rows, lambda rows: rows > FEW) - most
    return [prefill(g, some, Blocks), prefill(g, most, TileBlocks)]


def _few(g: Geometry, fixed: int | None) -> list[Stage]:
    most = (FEW if fixed is None else fixed) * g.each
    runs = _where(fixed, g.rows, lambda rows: rows <= FEW)
    first = partial(g, most, runs)
    return [first.stage, combine(g, first, runs)]


def _where(fixed: int | None, rows: Index, holds: Callable[[tirx.Expr], tirx.Expr]) -> Index:
    """1 where the stage runs, 0 where the number of rows is the other stage's."""
    if fixed is not None:
        return 1
    return tirx.Select(holds(as_expr(rows, "int64")), as_expr(1, "int64"), as_expr(0, "int64"))
