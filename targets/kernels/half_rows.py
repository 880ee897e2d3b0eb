"""Rows as bfloat16 beside or in place of codes, in the order of AMX's left tiles, for products of many rows.

[ceil(M / 32)][K / 32] tiles of 32 rows of 32 elements. Whoever makes codes makes these instead where there are LEAST
rows and more: the last output of a call with the attribute `tiles`.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .amx import BLOCK, SIDE
from .bf16 import rounded
from .builder import Builder
from .dot import store_vector
from .nibbles import splat
from .registry import Call
from .tensor import Index

LEAST = BLOCK  # rows from which on products in bfloat16 are faster than those of bytes


def code_results(call: Call) -> int:
    """How many of the call's results are codes, scales and sums."""
    return len(call.results) - int(call.attrs.get("tiles", 0))


class HalfRows:
    """The tiles that a call gives, if it does."""

    def __init__(self, b: Builder, call: Call, rows: Index) -> None:
        self.b, self.rows = b, rows
        self.view = b.arg(call.results[-1]) if call.attrs.get("tiles") else None

    def instead(self, many: Callable[[], None], few: Callable[[], None]) -> None:
        """Emits `many`, which stores tiles, where there are enough rows for them, and `few`."""
        if self.view is None:
            few()
        elif isinstance(self.rows, int):
            (many if self.rows >= LEAST else few)()
        else:
            with self.b.when(self.rows >= LEAST):
                many()
            with self.b.otherwise():
                few()

    def store(self, row: tirx.Expr, column: tirx.Expr, value: tirx.Expr) -> None:
        """16 elements of a row from `column` on, a multiple of 16, given as a float32 vector."""
        by, mask = tirx.const(BLOCK.bit_length() - 1, "int64"), tirx.const(BLOCK - 1, "int64")
        bits = tirx.shift_right(rounded(value), splat(16, "uint32", SIDE)).astype(f"uint16x{SIDE}")
        at = (row >> by, column >> by, row & mask, column & mask)
        store_vector(self.b, self.view, bits, *at)
