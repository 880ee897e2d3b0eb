"""RNN, GRU and LSTM in full generality: every activation, direction, layout, sequence lengths, peepholes.

One task runs one sequence of one direction through all steps. The usual forms have a fast template in targets/kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr
from targets.target import Target

from .activations import Function, functions
from .numbers import need_float, number, wide
from .registry import Custom, Node, Unsupported, op


@dataclass(eq=False)
class Layer:
    """What the three operators share. x [T, N, I] or, batch_first, [N, T, I]; w [D, G*H, I]; r [D, G*H, H]."""

    x: Tensor
    w: Tensor
    r: Tensor
    bias: Tensor | None
    lengths: Tensor | None
    initial: list[Tensor | None]  # [D, N, H] (batch_first: [N, D, H]): hidden state, and cell for the LSTM
    acts: list[list[Function]]  # by direction
    batch_first: bool
    reverse: list[bool]
    acc: str

    @property
    def steps(self) -> Index:
        """T."""
        return self.x.shape[1 if self.batch_first else 0]

    @property
    def batch(self) -> Index:
        """N."""
        return self.x.shape[0 if self.batch_first else 1]

    @property
    def hidden(self) -> int:
        """H."""
        return number(self.r.shape[2], "hidden_size")

    @property
    def directions(self) -> int:
        """D."""
        return len(self.reverse)

    def act(self, which: int, d: Scalar, value: Scalar) -> Scalar:
        """Activation `which` of direction `d`."""
        first = self.acts[0][which](value)
        if self.directions == 1:
            return first
        return tirx.if_then_else(tirx.EQ(d, as_expr(0, str(d.ty.dtype))), first, self.acts[1][which](value))

    def state_at(self, d: Index, n: Index, j: Index) -> tuple:
        """The indices of unit j of a state tensor."""
        return (n, d, j) if self.batch_first else (d, n, j)

    def outputs(self, count: int) -> list[Tensor]:
        """Leaves for Y, Y_h and (count 3) Y_c."""
        d, h, n, t = self.directions, self.hidden, self.batch, self.steps
        y = (n, t, d, h) if self.batch_first else (t, d, n, h)
        last = (n, d, h) if self.batch_first else (d, n, h)
        return [Tensor(y if i == 0 else last, self.x.dtype, f"y{i}") for i in range(count)]


def layer(node: Node, defaults: Sequence[str], initial: Sequence[int]) -> Layer:
    """The common inputs and attributes; `initial` are the positions of the initial states."""
    x, w, r = node.need(0), node.need(1), node.need(2)
    need_float(x.dtype, node.op)
    direction = node.attr("direction", "forward")
    reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(direction)
    if reverse is None:
        raise Unsupported(f"direction {direction}", "forward, reverse or bidirectional")
    names = list(node.attr("activations") or list(defaults) * len(reverse))
    if len(names) != len(defaults) * len(reverse):
        raise Unsupported(f"{len(names)} activations for {len(reverse)} directions")
    # the threshold bounds what goes into the gates; like ONNX Runtime, not what goes into the LSTM's third function
    clips = [node.attr("clip") if k % len(defaults) < 2 else None for k in range(len(names))]
    made = functions(names, node.attr("activation_alpha") or [], node.attr("activation_beta") or [], clips)
    each = len(defaults)
    return Layer(
        x, w, r, node.input(3), node.input(4), [node.input(i) for i in initial],
        [made[i * each : (i + 1) * each] for i in range(len(reverse))], bool(node.attr("layout", 0)), reverse,
        wide(x.dtype),
    )  # fmt: skip


class Kernel:
    """The kernel of one layer: sets states up, walks the steps, stores what `step` computes."""

    def __init__(self, lay: Layer, results: list[Tensor], wanted: list[bool], scratch: int) -> None:
        self.lay, self.results, self.wanted = lay, results, wanted
        d, n, h = lay.directions, lay.batch, lay.hidden
        self.states = [Temp((d, n, 2, h), lay.acc, f"state{i}") for i in range(len(lay.initial))]
        self.scratch = [Temp((d, n, h), lay.acc, f"gate{i}") for i in range(scratch)]

    def build(self, name: str, step: Callable[[Kernel], None]) -> list[Stage]:
        """`step(self)` computes the new states from the old: see `old`, `set_new`, `dot`."""
        lay = self.lay
        self.b = b = Builder(name)
        with b, b.parallel(as_expr(lay.directions * as_expr(lay.batch, "int64"), "int64")) as p:
            self.d = b.let(tirx.floordiv(p, as_expr(lay.batch, "int64")), "d")
            self.n = b.let(tirx.floormod(p, as_expr(lay.batch, "int64")), "n")
            self._start()
            steps = as_expr(lay.steps, "int64")
            length = steps
            if lay.lengths is not None:
                given = lay.lengths(self.n).astype("int64")
                length = b.let(tirx.max(tirx.min(given, steps), as_expr(0, "int64")), "length")
            with b.serial(length, "s") as s:
                s = s.astype("int64")
                self.t = b.let(self._time(s, length), "t")
                self.parity = b.let(tirx.floormod(s, as_expr(2, "int64")), "parity")
                step(self)
                self._store_step()
            self._finish(length, steps)
        return [b.stage()]

    def _time(self, s: Scalar, length: Scalar) -> Scalar:
        back = length - 1 - s
        if len(set(self.lay.reverse)) == 1:
            return back if self.lay.reverse[0] else s
        return tirx.if_then_else(tirx.EQ(self.d, as_expr(0, "int64")), s, back)

    def _start(self) -> None:
        for state, initial in zip(self.states, self.lay.initial, strict=True):
            buffer = self.b.arg(state)
            with self.b.serial(self.lay.hidden, "j") as j:
                value: Scalar = tirx.const(0, self.lay.acc)
                if initial is not None:
                    value = initial(*self.lay.state_at(self.d, self.n, j)).astype(self.lay.acc)
                self.b.store(buffer, (self.d, self.n, 0, j), value)

    def _y(self, t: Scalar, j: Scalar) -> tuple:
        return (self.n, t, self.d, j) if self.lay.batch_first else (t, self.d, self.n, j)

    def _store_step(self) -> None:
        if self.wanted[0]:
            y, b = self.b.arg(self.results[0]), self.b
            with b.serial(self.lay.hidden, "j") as j:
                b.store(y, self._y(self.t, j), b.arg(self.states[0])[self.d, self.n, 1 - self.parity, j])

    def _finish(self, length: Scalar, steps: Scalar) -> None:
        """Zeros after a sequence's end, and the states after its last step."""
        b, h = self.b, self.lay.hidden
        if self.wanted[0] and self.lay.lengths is not None:
            y = b.arg(self.results[0])
            with b.serial(steps - length, "s") as s, b.serial(h, "j") as j:
                b.store(y, self._y(length + s, j), tirx.const(0, self.lay.acc))
        last = tirx.floormod(length, as_expr(2, "int64"))
        for i, state in enumerate(self.states):
            if self.wanted[i + 1]:
                out = b.arg(self.results[i + 1])
                with b.serial(h, "j") as j:
                    b.store(out, self.lay.state_at(self.d, self.n, j), b.arg(state)[self.d, self.n, last, j])

    # ---- for steps ------------------------------------------------------------------------------------------------
    def old(self, state: int, j: Index) -> Scalar:
        """The state before this step."""
        return self.b.arg(self.states[state])[self.d, self.n, self.parity, j]

    def set_new(self, state: int, j: Index, value: Scalar) -> None:
        """Stores the state after this step."""
        self.b.store(self.b.arg(self.states[state]), (self.d, self.n, 1 - self.parity, j), value)

    def gate(self, i: int, j: Index) -> Scalar:
        """Unit j of a gate kept for this step."""
        return self.b.arg(self.scratch[i])[self.d, self.n, j]

    def set_gate(self, i: int, j: Index, value: Scalar) -> None:
        """Keeps unit j of a gate for this step."""
        self.b.store(self.b.arg(self.scratch[i]), (self.d, self.n, j), value)

    def from_input(self, gate: int, j: Index) -> Scalar:
        """x_t W[gate]^T and its bias, for unit j."""
        lay = self.lay

        def term(k: Scalar) -> Scalar:
            at = (self.n, self.t, k) if lay.batch_first else (self.t, self.n, k)
            return lay.x(*at).astype(lay.acc) * lay.w(self.d, gate * lay.hidden + j, k).astype(lay.acc)

        return self._sum(number(lay.x.shape[2], "input_size"), term, gate, j)

    def from_state(self, gate: int, j: Index, read: Callable[[Scalar], Scalar] | None = None) -> Scalar:
        """h R[gate]^T and its bias for unit j, h being the old state or what `read` gives."""
        lay = self.lay
        read = read or (lambda k: self.old(0, k))
        gates = number(lay.w.shape[1], "gates") // lay.hidden
        return self._sum(
            lay.hidden, lambda k: read(k) * lay.r(self.d, gate * lay.hidden + j, k).astype(lay.acc), gate + gates, j
        )

    def hold(self, value: Scalar) -> Scalar:
        """`value` in a register. Not `let`: TVM's simplifier refuses a bound expression that binds names itself."""
        held = self.b.local((1,), self.lay.acc)
        self.b.store(held, 0, value)
        return held[0]

    def _sum(self, extent: int, term: Callable[[Scalar], Scalar], bias_row: int, j: Index) -> Scalar:
        b, lay = self.b, self.lay
        total = b.local((1,), lay.acc)
        start: Scalar = tirx.const(0, lay.acc)
        if lay.bias is not None:
            start = lay.bias(self.d, bias_row * lay.hidden + j).astype(lay.acc)
        b.store(total, 0, start)
        with b.serial(extent, "k") as k:
            b.store(total, 0, total[0] + term(k))
        return total[0]


@op("RNN", since=1)
def rnn(node: Node) -> Custom:
    """h = f(x W^T + h R^T + b)."""
    lay = layer(node, ["Tanh"], [5])
    outputs = lay.outputs(max(2, len(node.outputs)))

    def step(k: Kernel) -> None:
        with k.b.serial(lay.hidden, "j") as j:
            k.set_new(0, j, lay.act(0, k.d, k.from_input(0, j) + k.from_state(0, j)))

    return _custom(node, lay, outputs, 0, step)


@op("GRU", since=3)
def gru(node: Node) -> Custom:
    """Gates z, r, h; with linear_before_reset the reset gate scales h R^T + b instead of h."""
    lay = layer(node, ["Sigmoid", "Tanh"], [5])
    outputs = lay.outputs(2)
    linear = bool(node.attr("linear_before_reset", 0))

    def step(k: Kernel) -> None:
        one = tirx.const(1, lay.acc)
        if not linear:
            with k.b.serial(lay.hidden, "j") as j:
                k.set_gate(0, j, lay.act(0, k.d, k.from_input(1, j) + k.from_state(1, j)) * k.old(0, j))
        with k.b.serial(lay.hidden, "j") as j:
            z = k.hold(lay.act(0, k.d, k.from_input(0, j) + k.from_state(0, j)))
            if linear:
                r = k.hold(lay.act(0, k.d, k.from_input(1, j) + k.from_state(1, j)))
                h = lay.act(1, k.d, k.from_input(2, j) + r * k.from_state(2, j))
            else:
                h = lay.act(1, k.d, k.from_input(2, j) + k.from_state(2, j, lambda i: k.gate(0, i)))
            k.set_new(0, j, (one - z) * h + z * k.old(0, j))

    return _custom(node, lay, outputs, 0 if linear else 1, step)


@op("LSTM", since=1)
def lstm(node: Node) -> Custom:
    """Gates i, o, f, c; peepholes P [D, 3*H] in the order i, o, f."""
    lay = layer(node, ["Sigmoid", "Tanh", "Tanh"], [5, 6])
    outputs = lay.outputs(3)
    peep = node.input(7)
    coupled = bool(node.attr("input_forget", 0))

    def step(k: Kernel) -> None:
        def peephole(row: int, j: Index, cell: Scalar) -> Scalar:
            if peep is None:
                return tirx.const(0, lay.acc)
            return peep(k.d, row * lay.hidden + j).astype(lay.acc) * cell

        with k.b.serial(lay.hidden, "j") as j:
            cell = k.old(1, j)
            i = k.hold(lay.act(0, k.d, k.from_input(0, j) + k.from_state(0, j) + peephole(0, j, cell)))
            if coupled:
                f = tirx.const(1, lay.acc) - i
            else:
                f = k.hold(lay.act(0, k.d, k.from_input(2, j) + k.from_state(2, j) + peephole(2, j, cell)))
            new = k.hold(lay.act(1, k.d, k.from_input(3, j) + k.from_state(3, j)))
            c = k.hold(f * cell + i * new)
            o = k.hold(lay.act(0, k.d, k.from_input(1, j) + k.from_state(1, j) + peephole(1, j, c)))
            k.set_new(1, j, c)
            k.set_new(0, j, o * lay.act(2, k.d, c))

    return _custom(node, lay, outputs, 0, step)


def _custom(node: Node, lay: Layer, outputs: list[Tensor], scratch: int, step: Callable[[Kernel], None]) -> Custom:
    wanted = [*node.outputs, False, False, False]

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        return Kernel(lay, results, wanted, scratch).build(node.op.lower(), step)

    return Custom(outputs, emit, tuple(t for t in node.inputs if t is not None))
