"""Mixtures of experts: tokens' best experts by a router, and feed-forward layers of which only those experts are read.

An expert lies in one piece, neuron by neuron: its row of the gate (or of the only matrix in), its row of the up
projection where there is one, its column of the down projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from . import vmath
from .builder import Builder
from .chosen_rows import SERIAL, mark
from .code_rows import fold
from .dot import load_vector
from .gated_codes import ACTIVE as GATED
from .loops import span
from .reading import Rows
from .stage import Const, Leaf, Stage
from .tensor import Tensor, as_expr


def _relu(b: Builder, x: tirx.Expr) -> tirx.Expr:
    return tirx.max(x, tirx.const(0.0, "float32"))


ACTIVE: dict[str, Callable[[Builder, tirx.Expr], tirx.Expr]] = {
    "relu": _relu, "silu": GATED["silu"], "gelu": GATED["gelu_tanh"],
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """Of every expert: `neurons` between `depth` numbers in and `width` out; gated: the activation of one product times
    another. table: float32 [experts, neurons, depth, perhaps depth again, and width]."""

    table: Const
    neurons: int
    depth: int
    width: int
    gated: bool
    activation: str


def route(router: Tensor, best: int, normalize: bool, routes: Leaf, taken: Leaf, chosen: Leaf, target: Target) -> Stage:
    """routes float32 [T, E]: softmax of a token's row of `router` [T, E] at its `best` largest, elsewhere zero; with
    `normalize` their sum is one. chosen int32 [E]: experts that some token takes, ascending, then E. taken: scratch.
    """
    tokens, count = router.shape
    b = Builder(f"route_experts_{target.isa}")
    source, out, used, numbers = b.arg(router), b.arg(routes), b.arg(taken), b.arg(chosen)
    zero = tirx.const(0.0, "float32")
    with b:
        top, total = b.local((1,), "float32"), b.local((1,), "float32")
        value, at = b.local((1,), "float32"), b.local((1,), "int32")
        with b.serial(tokens, "t") as t:
            token = as_expr(t)
            b.store(top, 0, source[token, as_expr(0)])
            b.store(total, 0, zero)
            with b.serial(count, "e") as e:
                b.store(top, 0, tirx.max(top[0], source[token, e]))
                b.store(out, (t, e), zero)
                b.store(used, e, tirx.const(0, "int32"))
            if not normalize:
                with b.serial(count, "e") as e:
                    b.store(total, 0, total[0] + vmath.exp(source[token, e] - top[0]))
            with b.serial(best, "k"):
                b.store(value, 0, tirx.const(float("-inf"), "float32"))
                b.store(at, 0, tirx.const(0, "int32"))
                with b.serial(count, "e") as e:
                    more = tirx.And(tirx.EQ(used[e], tirx.const(0, "int32")), source[token, e] > value[0])
                    with b.when(more):
                        b.store(value, 0, source[token, e])
                        b.store(at, 0, e)
                b.store(used, at[0], tirx.const(1, "int32"))
                b.store(out, (t, at[0]), vmath.exp(value[0] - top[0]))
                if normalize:
                    b.store(total, 0, total[0] + out[token, at[0]])
            with b.serial(count, "e") as e:
                b.store(out, (t, e), out[token, e] / total[0])
        mark(b, tokens, int(count), lambda t, e: out[t, e] > zero, numbers)
    return b.stage()


def experts(
    x: Tensor, routes: Leaf, chosen: Leaf, ahead: Leaf | None, layer: Layer, result: Tensor, target: Target
) -> Stage:
    """result [T, width] = sum over experts e of routes[t, e] * down_e(act(gate_e x[t]) * up_e x[t]), of which only the
    chosen ones are read. ahead: what the next mixture will likely choose, which can be read meanwhile."""
    tokens, count = routes.shape
    lanes = min(16, target.lanes("float32"))
    b = Builder(f"experts_{layer.activation}_{target.isa}")
    given, shares, numbers = b.arg(x), b.arg(routes), b.arg(chosen)
    data, out = b.arg(layer.table), b.arg(result)
    size = layer.neurons * int(layer.table.shape[2]) * item_size(layer.table.dtype)
    b.reading.rows = Rows(layer.table, chosen, int(count), 1, size, True, size, ahead)
    if ahead is not None:
        b.arg(ahead)
    with b, b.parallel(count, SERIAL) as task:
        with b.when(tirx.EQ(task, tirx.const(0, "int64"))), b.serial(tokens, "t") as t:
            span(b, layer.width, lanes, lambda n: b.store(out, (t, n), tirx.const(0.0, "float32")))
        row = b.let(numbers[task])
        with b.when(row < tirx.const(int(count), "int32")), b.serial(tokens, "t") as t:
            share = b.let(shares[as_expr(t), row])
            with b.when(share > tirx.const(0.0, "float32")), b.serial(layer.neurons, "f") as f:
                hidden = ACTIVE[layer.activation](b, _dot(b, data, (row, f), 0, given, t, layer.depth, lanes))
                if layer.gated:
                    hidden = hidden * _dot(b, data, (row, f), layer.depth, given, t, layer.depth, lanes)
                value, start = b.let(share * hidden), int(layer.table.shape[2]) - layer.width
                span(b, layer.width, lanes, lambda n: b.store(out, (t, n), out[t, n] + value * data[row, f, start + n]))
    return b.stage()


def _dot(
    b: Builder, data: tirx.Var, row: tuple[tirx.Expr, tirx.Expr], start: int, x: tirx.Var, t: tirx.Expr, depth: int,
    lanes: int,
) -> tirx.Expr:  # fmt: skip
    """`depth` numbers of a row from `start` on times row t of x."""
    total, zero = b.local((lanes,), "float32"), tirx.const(0, "int32")
    with b.vector(lanes) as v:
        b.store(total, v, tirx.const(0.0, "float32"))
    whole, rest = divmod(depth, lanes)
    with b.serial(whole, "j") as j, b.vector(lanes) as v:
        at = as_expr(j * lanes) + v
        b.store(total, v, total[v] + data[(*row, start + at)] * x[t, at])
    with b.serial(rest, "r") as r:
        at = whole * lanes + as_expr(r)
        b.store(total, zero, total[zero] + data[(*row, start + at)] * x[t, at])
    return b.let(fold(b, b.let(load_vector(total, zero, count=lanes)), lanes, lambda p, q: p + q))
