"""Products of floats with constant weights that are 4-bit indices into a table of 16 floats: nf4, codebooks.

The table lies in registers: AVX-512 takes 16 weights from it in one instruction, AVX2 8 in three. Scales of blocks that
are themselves quantized (QLoRA) come here as float32: a scale for 64 weights adds half a bit to each of them, decoding
them in the kernel would cost more than reading that, and the products are those of the model bit by bit.

With several tables columns that share one are brought together, so that a panel needs one table; a second kernel puts
the results in the order of the columns and applies what follows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import tirx

from targets.target import Target

from .blocked_weights import BlockedWeights
from .builder import Builder
from .gemm_blocked import BlockedKernel
from .loops import GRAIN
from .nibbles import WORD, Codes, Lookup
from .registry import Call, template
from .stage import Const, Stage
from .tails import MatrixTail
from .tensor import Tensor, product


@template("edgert.GemmLookup")
def gemm_lookup(call: Call, target: Target) -> list[Stage] | None:
    """a float32 [..., M, K] x table[index] * scale: index [K, N] (transB: [N, K]), table [16] (many: and book)."""
    index, table, scale, book = (*call.inputs[1:], None, None, None)[:4]
    weights = BlockedWeights.of(call.attrs, index, scale)
    if weights is None or table is None or table.data is None or int(table.shape[-1]) != 16 or weights.block % WORD:
        return None
    if book is None:
        return _Kernel(call, target, weights, table).stages()
    if book.data is None or weights.blocks != 1:
        return None
    return _by_table(call, target, weights, table, np.asarray(book.data()))


class _Kernel(BlockedKernel):
    """`tables`: the number of each panel's table."""

    def __init__(
        self, call: Call, target: Target, weights: BlockedWeights, table: Tensor, tables: np.ndarray | None = None
    ) -> None:
        super().__init__(call, target, weights, "gemm_lookup_f32")
        self.table, self.tables = table, tables

    def reader(self) -> Codes:
        b, table, data = self.b, self.table, self.table.data
        assert data is not None
        shape = (int(np.prod(table.shape)) // 16, 16)
        levels = Const(shape, "float32", lambda: np.asarray(data(), np.float32).reshape(shape), f"{table.name}:levels")
        self.lookup = Lookup(b, b.arg(self.weights.nibbles(self.lanes)), b.arg(levels), self.lanes, self.target)
        if self.tables is not None:
            numbers = self.tables
            which = Const(numbers.shape, "int32", lambda: numbers, f"{self.weights.q.name}:{self.lanes}:tables")
            self.numbers = b.arg(which)
        return self.lookup

    def _panels(self, panels: list[tirx.Expr]) -> None:
        if self.tables is None:
            self.lookup.begin([tirx.const(0, "int64")])
        else:
            self.lookup.begin([self.b.let(self.numbers[panel].astype("int64")) for panel in panels])


def _by_table(
    call: Call, target: Target, weights: BlockedWeights, table: Tensor, book: np.ndarray
) -> list[Stage] | None:
    lanes = target.lanes("float32")
    order = [np.flatnonzero(book == number) for number in range(int(table.shape[0]))]
    padded = [np.pad(columns, (0, -len(columns) % lanes), mode="edge") for columns in order if len(columns)]
    columns = np.concatenate(padded)  # the column at each place
    places = np.zeros(len(book), np.int32)
    places[columns[::-1]] = np.arange(len(columns), dtype=np.int32)[::-1]
    shape = call.outputs[0].shape
    moved = Tensor((*shape[:-1], len(columns)), "float32", "by_table")
    out = Tensor(moved.shape, "float32", "by_table")  # no value of the graph: scratch
    inner = replace(call, outputs=[moved], final=moved, results=[out])
    kernel = _Kernel(inner, target, _picked(weights, columns), table, book[columns[::lanes]].astype(np.int32))
    first = kernel.stages()
    return None if first is None else [*first, _in_order(call, target, out, places)]


def _picked(weights: BlockedWeights, columns: np.ndarray) -> BlockedWeights:
    """Those columns of the weights, in that order."""

    def take(t: Tensor | None) -> Tensor | None:
        if t is None or t.ndim == 0 or t.ndim == 1 and int(t.shape[0]) == 1:
            return t
        axis = 0 if t.ndim == 1 or weights.swapped else 1
        shape = tuple(len(columns) if a == axis else d for a, d in enumerate(t.shape))
        data = t.data
        assert data is not None
        return Tensor(shape, t.dtype, f"{t.name}:by_table", data=lambda: np.asarray(data()).take(columns, axis))

    q = take(weights.q)
    assert q is not None
    return BlockedWeights(q, take(weights.scale), None, weights.swapped, weights.block)


def _in_order(call: Call, target: Target, moved: Tensor, places: np.ndarray) -> Stage:
    """The results where they belong, through the call's tail."""
    b = Builder(f"gemm_lookup_order_f32_{target.isa}")
    cols = len(places)
    where = Const(places.shape, "int32", lambda: places, f"{call.need(1).name}:{target.lanes('float32')}:places")
    tail = MatrixTail(b, call)
    rows = product(call.outputs[0].shape[:-1])
    source, at = b.arg(moved, (rows, moved.shape[-1])), b.arg(where)
    with b, b.parallel(rows, max(1, GRAIN // cols)) as row, b.serial(tirx.const(cols, "int64"), "c") as c:
        tail.write(source[row, at[c].astype("int64")], row, c)
    return b.stage()
