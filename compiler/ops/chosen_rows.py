"""Feed-forward layers of which single neurons are read: see targets/kernels/chosen_rows.py."""

from __future__ import annotations

from targets.kernels.chosen_rows import Part, choose, products
from targets.kernels.stage import Const, Stage
from targets.kernels.tensor import Tensor, same_dim
from targets.target import Target

from .numbers import number
from .registry import Custom, Node, Unsupported, op


@op("ChooseRows", domain="edgert")
def choose_rows(node: Node) -> Custom:
    """values float32 [T, F], limits float32 [F] -> int32 [F]: those i, ascending, where |values[t, i]| > limits[i] for
    some t; behind them F."""
    values, limits = node.need(0), node.need(1)
    _check(values, limits)
    chosen = Tensor(limits.shape, "int32", "chosen")
    return Custom([chosen], lambda target, results: [choose(values, limits, results[0], target)], (values, limits))


@op("ChosenRows", domain="edgert")
def chosen_rows(node: Node) -> Custom:
    """values float32 [T, F], chosen int32 [F] (ChooseRows's), limits float32 [F], constant table [F, bytes], then
    perhaps scale and minimum float [F / size, N] of down, x float32 [T, K], scale and minimum float [F, K / size] of up
    -> float32 [T, N]: the sum over chosen rows i with |values[t, i]| > limits[i] of values[t, i] * down_i, or with x of
    values[t, i] * (up_i . x[t]) * down_i.

    The table is float32 [F, N], or uint8: up's codes and down's. Attributes: width (N); used: bytes of a row that
    matter; bits (4, 8, 32), size, zero of down, and up_bits, up_size, up_zero.
    """
    values, chosen, limits, table = (node.need(i) for i in range(4))
    _check(values, limits)
    rows, width, bits = number(table.shape[0], "rows"), int(node.attr("width")), int(node.attr("bits"))
    dtype = "float32" if bits == 32 else "uint8"
    if table.dtype != dtype or rows != number(limits.shape[0], "limits") or chosen.ndim != 1:
        raise Unsupported(f"chosen rows of {table.dtype} {list(table.shape)}", "a constant of a row for each limit")
    x, up = node.input(6), None
    if x is not None:
        up = Part(0, number(x.shape[1], "width of x"), int(node.attr("up_bits")), int(node.attr("up_zero", 0)),
                  node.input(7), node.input(8), int(node.attr("up_size")))  # fmt: skip
    down = Part(0 if up is None else up.bytes, width, bits, int(node.attr("zero", 0)), node.input(4), node.input(5),
                int(node.attr("size", 1)))  # fmt: skip
    if any(part.bits == 4 and part.count % 32 for part in (down, up) if part is not None):
        raise Unsupported(f"chosen rows of {width} codes of 4 bits", "multiples of 32")
    used = down.bytes + (0 if up is None else up.bytes)

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        made = table.data
        if made is None:
            raise Unsupported("chosen rows of a table that is computed", "a constant")
        const = Const((rows, number(table.shape[1], "bytes")), dtype, made, f"rows {table.name}", table.name)
        return [products(values, chosen, limits, const, used, down, results[0], target, up, x)]

    inputs = tuple(t for t in node.inputs if t is not None)
    return Custom([Tensor((values.shape[0], width), "float32", "rows_sum")], emit, inputs)


def _check(values: Tensor, limits: Tensor) -> None:
    if values.dtype != "float32" or limits.dtype != "float32" or values.ndim != 2 or limits.ndim != 1:
        raise Unsupported(f"rows chosen by {values.dtype} {list(values.shape)}", "float32 [tokens, rows]")
    if not same_dim(values.shape[1], limits.shape[0]):
        raise Unsupported(f"{limits.shape[0]} limits for {values.shape[1]} rows")
