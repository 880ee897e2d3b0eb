"""What one step of an LSTM, a GRU or an RNN does with its gates (ONNX's LSTM-22, GRU-22, RNN-22)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from . import vmath
from .builder import Builder


@dataclass(frozen=True)
class Cell:
    """update(b, parts, inputs, h, c, extra) gives the new h and c of one vector of units.

    parts: per gate h R^T, to which the input's product has been added already unless `apart`; inputs: that product.
    extra: peepholes i, o, f of an LSTM, or the recurrent bias of a GRU's last gate; empty where there is none.
    """

    gates: int
    activations: list[str]
    memory: bool  # has a cell state c
    apart: bool  # the last gate needs the two products one by one
    update: Callable[..., tuple[tirx.Expr, tirx.Expr | None]]


# b.keep, not b.let: a chain of bound expressions takes LLVM's front end in TVM exponential time
def _lstm(b: Builder, parts: list, inputs: list, h: tirx.Expr, c: tirx.Expr, extra: list) -> tuple:
    i, o, f, new = parts
    c = b.keep(c)
    if extra:
        i, f = b.keep(i + extra[0] * c), b.keep(f + extra[2] * c)
    i, f, new = b.keep(vmath.sigmoid(i)), b.keep(vmath.sigmoid(f)), b.keep(vmath.tanh(new))
    kept = b.keep(f * c + i * new)
    if extra:
        o = b.keep(o + extra[1] * kept)
    return b.keep(vmath.sigmoid(o)) * b.keep(vmath.tanh(kept)), kept


def _gru(b: Builder, parts: list, inputs: list, h: tirx.Expr, c: None, extra: list) -> tuple:
    z = b.keep(vmath.sigmoid(b.keep(parts[0] + inputs[0])))
    r = b.keep(vmath.sigmoid(b.keep(parts[1] + inputs[1])))
    recurrent = parts[2] + extra[0] if extra else parts[2]
    new = b.keep(vmath.tanh(b.keep(inputs[2] + r * recurrent)))
    return z * (h - new) + new, None


def _rnn(b: Builder, parts: list, inputs: list, h: tirx.Expr, c: None, extra: list) -> tuple:
    return vmath.tanh(parts[0]), None


CELLS = {
    "LSTM": Cell(4, ["sigmoid", "tanh", "tanh"], True, False, _lstm),
    "GRU": Cell(3, ["sigmoid", "tanh"], False, True, _gru),
    "RNN": Cell(1, ["tanh"], False, False, _rnn),
}
