"""DynamicQuantizeLSTM (domain com.microsoft): an LSTM with 8-bit weights, inputs and states quantized as it runs.

As ONNX Runtime does it: x in uint8 over the range of all its steps (those within the longest sequence); before each
step the whole batch's hidden state in uint8 over its own range; both times the range includes 0. Sums are int32, scaled
by (activation's scale * weights' scale); gates, cell and hidden state are float32. Weights W [D, I, 4*H] and
R [D, H, 4*H] lie with their columns together, unlike ONNX's LSTM; scales and zero points [D] or [D, 4*H].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, same_shape
from targets.target import Target

from .activations import Function, functions
from .contrib_lstm_kernel import Kernel
from .integer_matmul import BYTES
from .numbers import number
from .registry import Custom, Node, Unsupported, op

F32, I32, I64 = "float32", "int32", "int64"


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

    def value(self, d: Index, k: Index, column: Index) -> Scalar:
        """The number as it is stored, as int32."""
        return self.data(d, k, column).astype(I32)

    def offset(self, d: Index) -> Scalar:
        """The zero point as int32. ONNX Runtime wants those of all columns equal, so the first counts."""
        return self.zero(*((d, 0) if self.zero.ndim == 2 else (d,))).astype(I32)

    def step(self, d: Index, column: Index) -> Scalar:
        """The scale."""
        return self.scale(*((d, column) if self.scale.ndim == 2 else (d,)))


@dataclass(eq=False)
class Lstm:
    """The inputs and what follows from them. x [T, N, I], bias [D, 8*H], peep [D, 3*H], h0 and c0 [D, N, H]."""

    x: Tensor
    w: Weights
    r: Weights
    bias: Tensor | None
    lengths: Tensor | None
    h0: Tensor | None
    c0: Tensor | None
    peep: Tensor | None
    acts: list[list[Function]]
    reverse: list[bool]
    coupled: bool
    hidden: int

    def act(self, which: int, d: Scalar, value: Scalar) -> Scalar:
        """Activation `which` of direction `d`."""
        first = self.acts[0][which](value)
        if len(self.reverse) == 1:
            return first
        return tirx.if_then_else(tirx.EQ(d, as_expr(0, I64)), first, self.acts[1][which](value))


@op("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(node: Node) -> Custom:
    """X, W, R, B, sequence_lens, initial_h, initial_c, P, then scale and zero point of W and of R."""
    x = node.need(0)
    w, r = Weights(node.need(1), node.need(8), node.need(9)), Weights(node.need(2), node.need(10), node.need(11))
    reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(
        node.attr("direction", "forward")
    )
    if reverse is None or x.dtype != F32 or x.ndim != 3:
        raise Unsupported(f"direction {node.attr('direction')} over {x.dtype} of rank {x.ndim}", "float32 of rank 3")
    d, h = len(reverse), number(w.data.shape[2], "hidden_size") // 4
    depth = number(x.shape[2], "input_size")
    w.check((d, depth, 4 * h), "W")
    r.check((d, h, 4 * h), "R")
    names = list(node.attr("activations") or ["Sigmoid", "Tanh", "Tanh"] * d)
    if len(names) != 3 * d:
        raise Unsupported(f"{len(names)} activations for {d} directions")
    # as for the LSTM: the threshold bounds what goes into the gates, not what goes into the third function
    clips = [node.attr("clip") if k % 3 < 2 else None for k in range(len(names))]
    made = functions(names, node.attr("activation_alpha") or [], node.attr("activation_beta") or [], clips)
    lstm = Lstm(
        x, w, r, node.input(3), node.input(4), node.input(5), node.input(6), node.input(7),
        [made[3 * k : 3 * k + 3] for k in range(d)], reverse, bool(node.attr("input_forget", 0)), h,
    )  # fmt: skip
    steps, batch = x.shape[:2]
    outputs = [Tensor((steps, d, batch, h), F32, "y"), *(Tensor((d, batch, h), F32, name) for name in ("y_h", "y_c"))]
    wanted = [*node.outputs, False, False, False]

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        return Kernel(lstm, results, wanted, target).stages()

    return Custom(outputs, emit, tuple(t for t in node.inputs if t is not None))
