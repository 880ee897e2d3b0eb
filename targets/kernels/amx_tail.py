"""What happens to the sums of a block on AMX: any fused tail, or a requantization packed 64 bytes at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from .amx import BLOCK, SIDE
from .builder import Builder
from .byte_lanes import pack
from .dot import load_vector, store_vector
from .registry import Call
from .requantize import Requantization, packed_requantization
from .stage import Const
from .tails import MatrixTail
from .tensor import Index, Tensor, as_expr, product
from .tiles import chunks

Guard = Callable[[tirx.Expr], tirx.Expr]  # whether a row of the block, given its number, is stored
RowOf = Callable[[tirx.Expr], tirx.Expr]  # the result's row for a row of the block


def tail_of(b: Builder, call: Call, sums: tirx.Var, terms: int, cols: int) -> AnyTail | PackedTail:
    """The faster tail where it does the same; terms: products in one sum."""
    found = packed_requantization(call, terms)
    return AnyTail(b, call, sums) if found is None else PackedTail(b, call, sums, found, cols)


class AnyTail:
    """Element by element, as the fused expression says."""

    def __init__(self, b: Builder, call: Call, sums: tirx.Var) -> None:
        self.b, self.sums, self.tail = b, sums, MatrixTail(b, call)

    def unit(self, width: int) -> int:
        """Rows of one step."""
        return 1

    def rows(self, i: Index, valid: int, row: RowOf, group: tirx.Expr, width: int, guard: Guard | None) -> None:
        """Stores rows i..i+valid-1 of a block as the result's `row(i)`, `width` columns of a group."""

        def one() -> None:
            at = self.b.let(row(as_expr(i, "int64")))
            for offset, lanes in chunks(width, SIDE):
                with self.b.vector(lanes) as v:
                    col = v + offset if offset else v
                    self.tail.write(self.sums[i, col], at, group * BLOCK + col)

        if guard is None:
            one()
            return
        with self.b.when(guard(as_expr(i, "int64"))):
            one()


class PackedTail:
    """A requantization alone: saturating instructions pack four vectors to bytes."""

    def __init__(self, b: Builder, call: Call, sums: tirx.Var, meaning: Requantization, cols: int) -> None:
        self.b, self.sums, self.meaning = b, sums, meaning
        shape = call.outputs[0].shape
        self.out = b.arg(call.result, (product(shape[:-1]), cols))
        self.bias = b.arg(_padded(meaning.bias, cols, "int32"))
        self.scales = b.arg(_padded(meaning.multiplier, cols, "float32"))

    def unit(self, width: int) -> int:
        """Rows of one step: 64 bytes."""
        return 2 if width > SIDE else 4

    def rows(self, i: Index, valid: int, row: RowOf, group: tirx.Expr, width: int, guard: Guard | None) -> None:
        """Stores rows i..i+valid-1 of a block as the result's `row(i)`, `width` columns of a group."""
        b, meaning, wide = self.b, self.meaning, 2 if width > SIDE else 1
        at, col = as_expr(i, "int64"), b.let(group * BLOCK)
        # added here: sums that start from it (a tile load with a stride of zero) were slower
        bias, scales = (
            [b.let(load_vector(leaf, b.let(col + j * SIDE), count=SIDE)) for j in range(wide)]
            for leaf in (self.bias, self.scales)
        )
        vectors = []
        for r in range(self.unit(width)):
            for j in range(wide):
                total = load_vector(self.sums, at + r, tirx.const(j * SIDE, "int64"), count=SIDE)
                scaled = (total + bias[j]).astype(f"float32x{SIDE}") * scales[j]
                # to nearest even, as the processor's mode is
                vectors.append(b.let(tirx.call_llvm_pure_intrin(f"int32x{SIDE}", "llvm.lrint", scaled)))
        lanes = 4 * SIDE
        packed = meaning.clamped(pack(vectors, lanes, meaning.zero, meaning.dtype), lanes)
        # each 128 bits hold four bytes of every vector
        order = [tirx.const(part * 4 + vector, "int32") for vector in range(4) for part in range(4)]
        words = b.let(tirx.Shuffle([tirx.reinterpret(f"int32x{SIDE}", packed)], order))
        ordered = b.let(tirx.reinterpret(f"{meaning.dtype}x{lanes}", words))
        for r in range(valid):
            self._row(at + r, ordered, r * wide * SIDE, b.let(row(at + r)), col, width, guard)

    def _row(
        self, i: tirx.Expr, ordered: tirx.Expr, start: int, row: tirx.Expr, col: tirx.Expr, width: int,
        guard: Guard | None,
    ) -> None:  # fmt: skip
        def store() -> None:
            for offset, lanes in chunks(width, BLOCK):
                some = [tirx.const(start + offset + n, "int32") for n in range(lanes)]
                piece = tirx.Shuffle([ordered], some)
                if lanes == 1:
                    self.b.store(self.out, (row, col + offset), piece)
                else:
                    store_vector(self.b, self.out, piece, row, self.b.let(col + offset))

        if guard is None:
            store()
            return
        with self.b.when(guard(i)):
            store()


def _padded(leaf: Tensor, cols: int, dtype: str) -> Const:
    """A number a column (or one for all), up to a whole tile."""
    count = -(-cols // SIDE) * SIDE

    def make() -> np.ndarray:
        full = np.zeros(count, dtype)
        full[:cols] = np.asarray(leaf.data()).reshape(-1)  # type: ignore[misc]
        return full

    return Const((count,), dtype, make, f"{leaf.name}:columns{count}", f"{leaf.name}_padded")
