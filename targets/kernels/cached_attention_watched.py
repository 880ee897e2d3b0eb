"""A cache in float16 that also keeps the latest queries, by which a policy tells the rows that attention looks at
(SnapKV, Li et al. 2024, arXiv:2404.14469)."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from .cached_attention_format import Vector
from .cached_attention_halves import Half
from .dot import store_vector
from .tensor import Index, as_expr

WATCHED = 32  # rows whose queries are kept


class Watched(Half):
    """Half, and float16 queries [layers, 1, groups, WATCHED * heads of a group, size], turned and scaled: row r's stand
    at r % WATCHED, its heads side by side."""

    extra = 1

    @classmethod
    def shapes(cls, layers: int, groups: int, rows: Index, size: int, each: int = 1) -> list[tuple[tuple, str]]:
        """See Format.shapes."""
        return [*Half.shapes(layers, groups, rows, size), ((layers, 1, groups, WATCHED * each, size), "float16")]

    @classmethod
    def facts(cls) -> dict[str, Any]:
        """See Format.facts."""
        return {"watches": WATCHED}

    def watch(self, group: Index, h: tirx.Expr, row: tirx.Expr, left: tirx.Expr, d: int, query: Vector) -> None:
        """See Format.watch."""
        each = tirx.truncdiv(as_expr(self.buffers[1].shape[3], "int64"), as_expr(WATCHED, "int64"))
        with self.b.when(left < WATCHED):
            at = tirx.truncmod(row, as_expr(WATCHED, "int64")) * each + as_expr(h, "int64")
            place = self.at(0, group, at, d)
            store_vector(self.b, self.buffers[1], query.astype(f"float16x{self.lanes}"), *place)
