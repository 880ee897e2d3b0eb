"""DynamicQuantizeLSTM (domain com.microsoft): an LSTM with 8-bit weights, inputs and states quantized as it runs.

As ONNX Runtime does it: x in uint8 over the range of all its steps (those within the longest sequence); before each
step the whole batch's hidden state in uint8 over its own range; both times the range includes 0. Sums are int32, scaled
by (activation's scale * weights' scale); gates, cell and hidden state are float32. Weights W [D, I, 4*H] and
R [D, H, 4*H] lie with their columns together, unlike ONNX's LSTM; scales and zero points [D] or [D, 4*H].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, same_shape
from targets.target import Target

from . import mathfn as fn
from .activations import Function, functions
from .contrib_lstm_input import Inputs
from .contrib_lstm_kernel import Steps
from .integer_matmul import BYTES
from .numbers import number
from .registry import Custom, Node, Unsupported, op

F32 = "float32"
REVERSE = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


@dataclass(eq=False)
class Weights:
    """One matrix [D, K, 4*H] of bytes with a scale, and a zero point, for each direction or each of its columns."""

    data: Tensor
    scale: Tensor
    zero: Tensor

    def check(self, shape: Sequence[Index], what: str) -> None:
        """Raises Unsupported unless everything has its shape."""
        sizes = ((shape[0],), (shape[0], shape[2]))
        if self.data.dtype not in BYTES or self.zero.dtype != self.data.dtype or self.scale.dtype != F32:
            raise Unsupported(f"{what} of {self.data.dtype}", "int8 or uint8, the zero point alike, float32 scales")
        if not same_shape(self.data.shape, shape):
            raise Unsupported(f"{what} of shape {self.data.shape}", f"{tuple(shape)}")
        for t, name in ((self.scale, "scale"), (self.zero, "zero point")):
            if not any(same_shape(t.shape, size) for size in sizes):
                raise Unsupported(f"{what}'s {name} of shape {t.shape}", f"{sizes[0]} or {sizes[1]}")

    def step(self, d: Index, column: Index) -> Scalar:
        """The scale."""
        return self.scale(*((d, column) if self.scale.ndim == 2 else (d,)))


@dataclass(eq=False)
class Lstm:
    """The inputs and what follows from them. bias [D, 8*H], peep [D, 3*H], h0 and c0 [D, N, H].

    given: x [T, N, I], or [T, N, D * 4*H] what W has made of it.
    """

    given: Tensor
    r: Weights
    bias: Tensor | None
    lengths: Tensor | None
    h0: Tensor | None
    c0: Tensor | None
    peep: Tensor | None
    acts: list[list[Function]]  # of each direction, or of all
    reverse: list[bool]
    coupled: bool
    hidden: int

    def act(self, which: int, d: Scalar, value: Scalar) -> Scalar:
        """Activation `which` of direction `d`."""
        first = self.acts[0][which](value)
        if len(self.acts) == 1:
            return first
        return fn.select(tirx.EQ(d, as_expr(0, "int64")), first, self.acts[1][which](value))

    def length(self, n: Index, steps: Index) -> Scalar:
        """How many steps sequence n has."""
        whole = as_expr(steps, "int64")
        if self.lengths is None:
            return whole
        return tirx.max(tirx.min(self.lengths(n).astype("int64"), whole), as_expr(0, "int64"))


def _lstm(node: Node, given: Tensor, r: Weights, rest: Sequence[Tensor | None], hidden: int) -> Lstm:
    """`rest`: B, sequence_lens, initial_h, initial_c, P."""
    reverse = REVERSE.get(node.attr("direction", "forward"))
    if reverse is None:
        raise Unsupported(f"direction {node.attr('direction')}", "forward, reverse or bidirectional")
    d = len(reverse)
    r.check((d, hidden, 4 * hidden), "R")
    names = list(node.attr("activations") or ["Sigmoid", "Tanh", "Tanh"] * d)
    if len(names) != 3 * d:
        raise Unsupported(f"{len(names)} activations for {d} directions")
    alpha, beta = node.attr("activation_alpha") or [], node.attr("activation_beta") or []
    # as for the LSTM: the threshold bounds what goes into the gates, not what goes into the third function
    clips = [node.attr("clip") if k % 3 < 2 else None for k in range(len(names))]
    made = functions(names, alpha, beta, clips)
    alike = not alpha and not beta and names[:3] == names[-3:]
    acts = [made[:3]] if alike else [made[3 * k : 3 * k + 3] for k in range(d)]
    bias, lengths, h0, c0, peep = rest
    return Lstm(
        given, r, bias, lengths, h0, c0, peep, acts, reverse, bool(node.attr("input_forget", 0)), hidden
    )  # fmt: skip


def _custom(node: Node, lstm: Lstm, emit: Callable[[Target, list[Tensor], list[bool]], list[Stage]]) -> Custom:
    (steps, batch), d, h = lstm.given.shape[:2], len(lstm.reverse), lstm.hidden
    outputs = [Tensor((steps, d, batch, h), F32, "y"), *(Tensor((d, batch, h), F32, name) for name in ("y_h", "y_c"))]
    wanted = [*node.outputs, False, False, False]
    inputs = tuple(t for t in node.inputs if t is not None)
    return Custom(outputs, lambda target, results: emit(target, results, wanted), inputs)


def _constant(node: Node, *inputs: int) -> None:
    if any(node.const(i) is None for i in inputs):
        raise Unsupported("weights that are known only at run time", "constant weights and zero points")


@op("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(node: Node) -> Custom:
    """X, W, R, B, sequence_lens, initial_h, initial_c, P, then scale and zero point of W and of R."""
    x, w, r = node.need(0), node.need(1), node.need(2)
    if x.dtype != F32 or x.ndim != 3 or r.ndim != 3:
        raise Unsupported(f"{x.dtype} inputs of rank {x.ndim}", "float32 of rank 3")
    _constant(node, 1, 2, 9, 11)
    given = Weights(w, node.need(8), node.need(9))
    lstm = _lstm(
        node, x, Weights(r, node.need(10), node.need(11)), [node.input(i) for i in range(3, 8)],
        number(r.shape[1], "hidden_size"),
    )  # fmt: skip
    given.check((len(lstm.reverse), number(x.shape[2], "input_size"), 4 * lstm.hidden), "W")

    def emit(target: Target, results: list[Tensor], wanted: list[bool]) -> list[Stage]:
        inputs = Inputs(lstm, given, target)
        return [*inputs.stages(), Steps(lstm, inputs.gates, results, wanted, target).stage()]

    return _custom(node, lstm, emit)


@op("DynamicLstmSteps", domain="edgert")
def dynamic_lstm_steps(node: Node) -> Custom:
    """What follows the product with W: that product float32 [T, N, D * 4*H], R, B, initial_h, initial_c, P, then scale
    and zero point of R. Attributes as DynamicQuantizeLSTM's.
    """
    gates, r = node.need(0), node.need(1)
    _constant(node, 1, 7)
    rest = [node.input(2), None, *(node.input(i) for i in (3, 4, 5))]
    hidden = number(r.shape[1], "hidden_size")
    lstm = _lstm(node, gates, Weights(r, node.need(6), node.need(7)), rest, hidden)
    if not same_shape(gates.shape[2:], (len(lstm.reverse) * 4 * hidden,)):
        raise Unsupported(f"gates of shape {gates.shape} for {hidden} units")

    def emit(target: Target, results: list[Tensor], wanted: list[bool]) -> list[Stage]:
        return [Steps(lstm, gates, results, wanted, target).stage()]

    return _custom(node, lstm, emit)
