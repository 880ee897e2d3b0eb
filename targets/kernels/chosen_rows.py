"""Feed-forward layers by neuron: which of them tokens need, and products with the rows of only those.

A neuron's row is its column of the down projection, and before it, where those are bundled, its row of the up
projection ("LLM in a flash", Alizadeh et al., arXiv 2312.11514): what a token needs lies in one piece of the flash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from .builder import Builder
from .code_rows import fold
from .dot import load_vector
from .loops import span
from .reading import Rows
from .stage import Const, Stage
from .tensor import Index, Tensor, as_expr

SERIAL = 1 << 40  # iterations that a thread is worth at least: one thread does all, in order


def choose(values: Tensor, limits: Tensor, chosen: Tensor, target: Target) -> Stage:
    """chosen int32 [F]: those i, ascending, for which |values[t, i]| > limits[i] at some t; then F again and again."""
    tokens, count = values.shape
    b = Builder(f"choose_rows_{target.isa}")
    source, limit, out = b.arg(values), b.arg(limits), b.arg(chosen)
    with b:
        mark(b, tokens, int(count), lambda t, i: tirx.abs(source[t, i]) > limit[i], out)
    return b.stage()


def mark(b: Builder, tokens: Index, count: int, above: Callable[..., tirx.Expr], out: tirx.Var) -> None:
    """out int32 [count]: those i, ascending, with above(t, i) at some t; then `count` again and again."""
    found, any_ = b.local((1,), "int32"), b.local((1,), "int32")
    b.store(found, 0, 0)
    with b.serial(count, "i") as i:
        b.store(any_, 0, 0)
        with b.serial(tokens, "t") as t:
            b.store(any_, 0, tirx.max(any_[0], above(as_expr(t), i).astype("int32")))
        with b.when(tirx.NE(any_[0], tirx.const(0, "int32"))):
            b.store(out, found[0], i)
            b.store(found, 0, found[0] + 1)
    with b.loop_while(found[0] < tirx.const(count, "int32")):
        b.store(out, found[0], tirx.const(count, "int32"))
        b.store(found, 0, found[0] + 1)


@dataclass(frozen=True)
class Part:
    """Weights of a row from byte `start` on: `count` of them in `bits` (32: floats; else codes, of 4 bits the second
    half of them in the high bits). scale, minimum: of blocks, [..., count] or [rows, count / size]; see `Row`."""

    start: int
    count: int
    bits: int
    zero: int = 0
    scale: Tensor | None = None
    minimum: Tensor | None = None
    size: int = 1

    @property
    def bytes(self) -> int:
        """Of a row."""
        return self.count * self.bits // 8


def products(
    values: Tensor, chosen: Tensor, limits: Tensor, table: Const, used: int, down: Part, result: Tensor,
    target: Target, up: Part | None = None, x: Tensor | None = None,
) -> Stage:  # fmt: skip
    """result [T, N] = sum over chosen rows i with |values[t, i]| > limits[i] of values[t, i] * down_i; with `up` and
    x [T, K] of values[t, i] * (up_i . x[t]) * down_i.

    down's scale and minimum are [F / size, N]: rows next to each other share them. up's are [F, K / size].
    """
    tokens, rows = values.shape
    lanes = min(16, target.lanes("float32"))
    b = Builder(f"chosen_rows_{down.bits}{'' if up is None else f'_up{up.bits}'}_{target.isa}")
    source, numbers, limit = b.arg(values), b.arg(chosen), b.arg(limits)
    data, out = b.arg(table), b.arg(result)
    b.reading.rows = Rows(table, chosen, int(rows), 1, table.shape[1] * item_size(table.dtype), True, used)
    with b, b.parallel(rows, SERIAL) as task:
        with b.when(tirx.EQ(task, tirx.const(0, "int64"))), b.serial(tokens, "t") as t:
            span(b, down.count, lanes, lambda n: b.store(out, (t, n), tirx.const(0.0, "float32")))
        row = b.let(numbers[task])
        with b.when(row < tirx.const(int(rows), "int32")), b.serial(tokens, "t") as t:
            value = b.let(source[as_expr(t), row])
            with b.when(tirx.abs(value) > limit[row]):
                if up is not None and x is not None:
                    value = b.let(value * _dot(b, data, row, up, b.arg(x), t, lanes))
                _add(b, data, row, down, value, out, t, lanes)
    return b.stage()


Use = Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None]  # first index of a vector, lane, stored value as float32


def _weights(b: Builder, data: tirx.Var, row: tirx.Expr, part: Part, lanes: int, use: Use) -> None:
    """Calls `use` in vector loops over all of a part's weights."""
    if part.bits == 4:
        half = part.count // 2
        with b.serial(half // lanes, "j") as j, b.vector(lanes) as v:
            both = data[row, part.start + j * lanes + v].astype("int32")
            use(j * lanes, v, (both & tirx.const(15, "int32")).astype("float32"))
            use(j * lanes + half, v, tirx.shift_right(both, tirx.const(4, "int32")).astype("float32"))
        return
    first = part.start * 8 // part.bits
    whole, rest = divmod(part.count, lanes)
    with b.serial(whole, "j") as j, b.vector(lanes) as v:
        use(as_expr(j * lanes), v, data[row, first + j * lanes + v].astype("float32"))
    with b.serial(rest, "r") as r:
        use(whole * lanes + as_expr(r), tirx.const(0, "int32"), data[row, first + whole * lanes + r].astype("float32"))


def _dot(
    b: Builder, data: tirx.Var, row: tirx.Expr, part: Part, x: tirx.Var, t: tirx.Expr, lanes: int
) -> tirx.Expr:  # fmt: skip
    """A row's part times row t of x."""
    total = b.local((lanes,), "float32")
    with b.vector(lanes) as v:
        b.store(total, v, tirx.const(0.0, "float32"))
    scale, least = (None if f is None else b.arg(f) for f in (part.scale, part.minimum))

    def add(first: tirx.Expr, lane: tirx.Expr, code: tirx.Expr) -> None:
        block = tirx.truncdiv(first, tirx.const(part.size, "int32"))  # lanes divide it
        weight = _weight(code, part, scale, least, (row, block))
        b.store(total, lane, total[lane] + weight * x[t, first + lane])

    _weights(b, data, row, part, lanes, add)
    return fold(b, b.let(load_vector(total, tirx.const(0, "int32"), count=lanes)), lanes, lambda p, q: p + q)


def _add(
    b: Builder, data: tirx.Var, row: tirx.Expr, part: Part, value: tirx.Expr, out: tirx.Var, t: tirx.Expr, lanes: int
) -> None:  # fmt: skip
    """Row t of out += value times a row's part."""
    scale, least = (None if f is None else b.arg(f) for f in (part.scale, part.minimum))
    block = b.let(tirx.truncdiv(row, tirx.const(part.size, "int32")))

    def add(first: tirx.Expr, lane: tirx.Expr, code: tirx.Expr) -> None:
        n = first + lane
        b.store(out, (t, n), out[t, n] + value * _weight(code, part, scale, least, (block, n)))

    _weights(b, data, row, part, lanes, add)


def _weight(
    code: tirx.Expr, part: Part, scale: tirx.Var | None, least: tirx.Var | None, at: tuple[tirx.Expr, tirx.Expr]
) -> tirx.Expr:  # fmt: skip
    if scale is None:
        return code
    weight = (code - tirx.const(float(part.zero), "float32")) if part.zero else code
    weight = weight * scale[at].astype("float32")
    return weight if least is None else weight + least[at].astype("float32")
