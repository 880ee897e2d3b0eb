"""A head's keys and values as the right sides of products: int8, four neighbours of the reduction in each lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from .builder import Builder
from .dot import QUAD, bytes_as_word, load_vector, load_word, store_vector
from .tensor import Index, as_expr

if TYPE_CHECKING:
    from .attention_integer import _Attention

ONES = 0x01010101
FLIPS = -0x7F7F7F80  # 0x80 in every byte: uint8 to int8
NEVER = -float("inf")


def word_at(buffer: tirx.Var, place: tuple, known: int) -> tirx.Expr:
    """`known` (up to four) bytes from `place` on as an int32."""
    if known == QUAD:
        return load_word(buffer, *place)
    return bytes_as_word(lambda i: buffer[(*place[:-1], place[-1] + i)], known)


def pack_keys(a: _Attention) -> None:
    """keys[panel, quad, lane] = four bytes of a key; offsets[key] = -q_zero * sum(key - k_zero)."""
    b, lanes, s = a.b, a.lanes, a.s
    quads = -(-a.width // QUAD)
    last = as_expr(a.k.length, "int64") - 1
    unsigned = a.k.leaf.dtype == "uint8"
    for quad in range(quads):
        known = min(QUAD, a.width - quad * QUAD)
        one = tirx.Broadcast(tirx.const(ONES & ((1 << 8 * known) - 1), "int32"), lanes)
        store_vector(b, s.keys, one, a.task, _end(s.padded, lanes), _int(quad), _int(0))
    with b.serial(_quotient(s.padded, lanes), "panel") as panel:
        panel = as_expr(panel, "int64")
        with b.serial(lanes, "lane") as lane:
            key = b.let(tirx.min(panel * lanes + lane, last))
            for quad in range(quads):
                known = min(QUAD, a.width - quad * QUAD)
                word = word_at(a.k.buffer, a.k.at(a.n, a.h, key, tirx.const(quad * QUAD, "int64")), known)
                if unsigned:
                    flips = FLIPS if known == QUAD else (1 << 8 * known) // 255 * 128
                    word = word ^ tirx.const(flips, "int32")
                b.store(s.keys, (a.task, panel, quad, lane), word)
        total: tirx.Expr = tirx.Broadcast(tirx.const(0, "int32"), lanes)
        ones = [b.let(v) for v in a.dot.left(s.keys[a.task, _end(s.padded, lanes), 0, 0], a.signed)]
        for quad in range(quads):
            total = b.let(a.dot.add(total, tuple(ones), a.dot.right(keys_of(a, panel, quad))))
        rest = tirx.Broadcast(tirx.const(a.k_rest * a.width, "int32"), lanes)
        offset = (total - rest) * tirx.Broadcast(tirx.const(-a.q_zero, "int32"), lanes)
        store_vector(b, s.offsets, offset, a.task, panel * lanes)


def keys_of(a: _Attention, panel: Index, quad: Index) -> tirx.Expr:
    """A vector of packed keys, as bytes."""
    place = (a.task, as_expr(panel, "int64"), as_expr(quad, "int64"), _int(0))
    return tirx.reinterpret(f"int8x{QUAD * a.lanes}", load_vector(a.s.keys, *place, count=a.lanes))


def values_of(a: _Attention, panel: Index, quad: Index) -> tirx.Expr:
    """A vector of packed values, as bytes."""
    place = (a.task, as_expr(panel, "int64"), as_expr(quad, "int64"), _int(0))
    return tirx.reinterpret(f"int8x{QUAD * a.lanes}", load_vector(a.s.values, *place, count=a.lanes))


def pack_values(a: _Attention) -> None:
    """values[panel, quad, lane] = one column of four keys, in the order of the codes.

    Beyond the last key its values are repeated: the codes are zero there.
    """
    b, lanes, s, size = a.b, a.lanes, a.s, int(a.v.size)
    last = as_expr(a.k.length, "int64") - 1
    flips = FLIPS if a.v.leaf.dtype == "uint8" else 0
    with b.serial(_quotient(s.padded, QUAD), "quad") as place:
        place = as_expr(place, "int64")
        first = b.let(a.slot(place) * QUAD)
        keys = [b.let(tirx.min(first + i, last)) for i in range(QUAD)]
        for panel in range(a.panels):
            column = _int(panel * lanes)
            if size - panel * lanes >= lanes:
                rows = [load_vector(a.v.buffer, *a.v.at(a.n, a.h, key, column), count=lanes) for key in keys]
                words = woven(b, [b.let(row) for row in rows], lanes)
                words = words ^ tirx.Broadcast(tirx.const(flips, "int32"), lanes)
                store_vector(b, s.values, words, a.task, _int(panel), place, _int(0))
                continue
            with b.serial(size - panel * lanes, "lane") as lane:
                at = column + lane
                word = bytes_as_word(lambda i: a.v.buffer[a.v.at(a.n, a.h, keys[i], at)])  # noqa: B023
                b.store(s.values, (a.task, panel, place, lane), word ^ tirx.const(flips, "int32"))
        if a.v_rest:
            one = tirx.Broadcast(tirx.const(ONES, "int32"), lanes)
            store_vector(b, s.values, one, a.task, _int(a.panels), place, _int(0))


def woven(b: Builder, rows: list[tirx.Expr], lanes: int) -> tirx.Expr:
    """Four vectors of bytes -> one of int32, each lane holding one byte of every row."""
    turns = [tirx.const(at, "int32") for i in range(lanes) for at in (i, i + lanes)]
    pairs = [tirx.reinterpret(f"int16x{lanes}", tirx.Shuffle(rows[i : i + 2], turns)) for i in (0, 2)]
    return tirx.reinterpret(f"int32x{lanes}", tirx.Shuffle([b.let(p) for p in pairs], turns))


def read_bias(a: _Attention, query: tirx.Expr, row: int) -> None:
    """bias[row, key] = what the mask adds to the score of a query and a key; minus infinity beyond the last key."""
    b, s, mask = a.b, a.s, a.mask
    length = as_expr(a.k.length, "int64")

    def value(key: tirx.Expr) -> tirx.Expr:
        if mask is None:
            return tirx.const(0.0, "float32")
        full = [a.n, a.h, query, key]
        pairs = zip(mask.shape, full[len(full) - mask.ndim :], strict=True)
        place = tuple(_int(0) if isinstance(d, int) and d == 1 else as_expr(i) for d, i in pairs)
        there = b.read(mask, place)
        if mask.dtype == "bool":
            return tirx.Select(there, tirx.const(0.0, "float32"), tirx.const(NEVER, "float32"))
        return there

    with b.serial(a.k.length, "key") as key:
        key = as_expr(key, "int64")
        b.store(s.bias, (a.task, row, key), value(key))
    with b.serial(s.padded - length, "key") as key:
        b.store(s.bias, (a.task, row, length + key), tirx.const(NEVER, "float32"))


def _quotient(value: Index, by: int) -> Index:
    return value // by if isinstance(value, int) else tirx.truncdiv(value, _int(by))


def _end(padded: Index, lanes: int) -> tirx.Expr:
    return as_expr(_quotient(padded, lanes), "int64")


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
