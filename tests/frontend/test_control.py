"""Control flow becomes plain nodes that compute the same: ONNX Runtime runs the model before and after."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend import Facts, control, load

from .models import model, node

F, N, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def graph(nodes: list, inputs: dict, outputs: dict, constants: dict | None = None) -> onnx.GraphProto:
    """A body; inputs and outputs map names to (element type, shape)."""
    made = [[helper.make_tensor_value_info(n, *kind) for n, kind in part.items()] for part in (inputs, outputs)]
    return helper.make_graph(nodes, "b", *made, [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()])


def check(proto: onnx.ModelProto, **feed: np.ndarray) -> tuple[ir.Model, Facts]:
    """Both models give the same answers and the front end knows their shapes."""
    read, facts = load(ir.from_proto(proto))
    assert not facts.problems, facts.problems
    assert not [n for n in read.graph if n.op_type in ("If", "Loop", "Scan")]
    plain = ir.to_proto(read)
    before, after = (ort.InferenceSession(p.SerializeToString()).run(None, feed) for p in (proto, plain))
    for value, a, b in zip(read.graph.outputs, before, after, strict=True):
        np.testing.assert_array_equal(a, b)
        assert facts.values[value.name or ""].shape == a.shape
    return read, facts


X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5


# ---- If --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("dims", [(), (1,)])
def test_a_branch_chosen_at_run_time(condition: bool, dims: tuple) -> None:
    then = graph([node("Add", "x k", "t"), node("Relu", "t", "p"), node("Neg", "t", "q")], {},
                 {"p": (F, (2, 3)), "q": (F, (2, 3))}, {"k": np.ones(3, np.float32)})  # fmt: skip
    other = graph([node("Mul", "x k", "t"), node("Abs", "t", "p")], {}, {"p": (F, (2, 3)), "t": (F, (2, 3))},
                  {"k": np.full(3, 2, np.float32)})  # fmt: skip
    proto = model([node("If", "c", "a y", then_branch=then, else_branch=other), node("Exp", "a", "z")],
                  {"x": (2, 3), "c": dims}, "y z", types={"c": B})  # fmt: skip
    check(proto, x=X, c=np.full(dims, condition))


def test_branches_in_branches() -> None:
    def inner(op: str) -> onnx.GraphProto:
        return graph([node(op, "x", "r")], {}, {"r": (F, (2, 3))})

    nested = graph([node("If", "d", "s", then_branch=inner("Relu"), else_branch=inner("Abs"))], {}, {"s": (F, (2, 3))})
    proto = model([node("If", "c", "y", then_branch=nested, else_branch=inner("Neg"))],
                  {"x": (2, 3), "c": (), "d": ()}, types={"c": B, "d": B})  # fmt: skip
    for c in (True, False):
        for d in (True, False):
            check(proto, x=X, c=np.array(c), d=np.array(d))


def test_branches_of_different_shapes_are_refused() -> None:
    """Where would broadcast [3] to [2, 3] and the model's answer would have another shape."""
    then = graph([node("ReduceMax", "x", "r", axes=[0], keepdims=0)], {}, {"r": (F, (3,))})
    other = graph([node("Neg", "x", "r")], {}, {"r": (F, (2, 3))})
    proto = model([node("If", "c", "y", then_branch=then, else_branch=other)], {"x": (2, 3), "c": ()}, types={"c": B})
    _, facts = load(ir.from_proto(proto))
    assert "3 and 2x3" in facts.problems[0].reason


def test_a_branch_that_could_divide_by_zero_is_refused() -> None:
    then = graph([node("Div", "n m", "r")], {}, {"r": (N, ())})
    other = graph([node("Identity", "n", "r")], {}, {"r": (N, ())})
    proto = model([node("If", "c", "y", then_branch=then, else_branch=other)], {"n": (), "m": (), "c": ()},
                  types={"c": B, "n": N, "m": N, "y": N})  # fmt: skip
    _, facts = load(ir.from_proto(proto))
    assert [p.op for p in facts.problems] == ["If"]


# ---- Loop ------------------------------------------------------------------------------------------------------------
def loop(count: int | None, condition: bool | None, trips: int = 0) -> onnx.ModelProto:
    """a starts as x; in turn i it becomes a * k + i, and its sum over rows is collected."""
    nodes = [node("Cast", "i", "f", to=1), node("Mul", "a k", "t"), node("Add", "t f", "b"),
             node("ReduceMax", "b", "row", axes=[0], keepdims=0), node("Identity", "go", "on")]  # fmt: skip
    body = graph(nodes, {"i": (N, ()), "go": (B, ()), "a": (F, (2, 3))},
                 {"on": (B, ()), "b": (F, (2, 3)), "row": (F, (3,))}, {"k": np.array(0.5, np.float32)})  # fmt: skip
    constants = {"count": np.array(count or 0), "start": np.array(bool(condition))}
    names = f"{'count' if count is not None else '_'} {'start' if condition is not None else '_'} x"
    return model([node("Loop", names, "y rows", body=body)], outputs="y rows", constants=constants)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("condition", [True, None])
def test_a_loop_of_known_length(count: int, condition: bool | None) -> None:
    read, _ = check(loop(count, condition), x=X)
    assert sum(n.op_type == "Mul" for n in read.graph) == count


def test_a_loop_that_never_runs() -> None:
    body = graph([node("Neg", "a", "b"), node("Identity", "go", "on")], {"i": (N, ()), "go": (B, ()), "a": (F, (2, 3))},
                 {"on": (B, ()), "b": (F, (2, 3))})  # fmt: skip
    for count, start in ((0, True), (4, False)):
        proto = model([node("Loop", "count start x", "a", body=body), node("Relu", "a", "y")],
                      constants={"count": np.array(count), "start": np.array(start)})  # fmt: skip
        check(proto, x=X)


def test_loops_in_loops_and_outer_values() -> None:
    inner = graph([node("Add", "b x", "c"), node("Identity", "go2", "on2")],
                  {"j": (N, ()), "go2": (B, ()), "b": (F, (2, 3))}, {"on2": (B, ()), "c": (F, (2, 3))})  # fmt: skip
    body = graph([node("Mul", "a x", "m"), node("Loop", "two _ m", "n", body=inner), node("Identity", "go", "on")],
                 {"i": (N, ()), "go": (B, ()), "a": (F, (2, 3))}, {"on": (B, ()), "n": (F, (2, 3))})  # fmt: skip
    proto = model([node("Loop", "three _ x", "y", body=body)], constants={"two": np.array(2), "three": np.array(3)})
    read, _ = check(proto, x=X)
    assert sum(n.op_type == "Add" for n in read.graph) == 6


def test_loops_that_cannot_be_unrolled_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = graph([node("Neg", "a", "b"), node("ReduceMax", "b", "s", keepdims=0), node("Less", "s big", "on")],
                 {"i": (N, ()), "go": (B, ()), "a": (F, (2, 3))}, {"on": (B, ()), "b": (F, (2, 3))},
                 {"big": np.array(9, np.float32)})  # fmt: skip
    proto = model([node("Loop", "count _ x", "y", body=stop)], constants={"count": np.array(3)})
    _, facts = load(ir.from_proto(proto))
    assert "condition" in facts.problems[0].reason
    run_time = loop(3, None)
    del run_time.graph.initializer[0]
    run_time.graph.input.append(helper.make_tensor_value_info("count", N, ()))
    _, facts = load(ir.from_proto(run_time))
    assert "number of iterations" in facts.problems[0].reason
    monkeypatch.setattr(control, "MOST_NODES", 20)
    _, facts = load(ir.from_proto(loop(5, None)))
    assert "too long" in facts.problems[0].reason


# ---- Scan ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("back", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("out_back", [0, 1])
def test_scan(back: int, axis: int, out_axis: int, out_back: int) -> None:
    """s accumulates the slices of x along an axis; each step's sum and square come out."""
    size = 3 if axis == 0 else 2
    row = (F, (size,))
    body = graph([node("Add", "s e", "t"), node("Mul", "t t", "q"), node("Identity", "q", "r")],
                 {"s": row, "e": row}, {"t": row, "q": row, "r": row})  # fmt: skip
    ways = {"scan_input_directions": [back], "scan_output_axes": [out_axis, 0], "scan_output_directions": [out_back, 0]}
    scan = node("Scan", "z x", "last y w", body=body, num_scan_inputs=1, scan_input_axes=[axis], **ways)
    proto = model([scan], {"x": (2, 3), "z": (size,)}, "last y w")
    check(proto, x=X, z=np.ones(size, np.float32))


def test_a_scan_over_a_length_known_only_at_run_time_is_refused() -> None:
    body = graph([node("Add", "s e", "t")], {"s": (F, (3,)), "e": (F, (3,))}, {"t": (F, (3,))})
    proto = model([node("Scan", "z x", "y", body=body, num_scan_inputs=1)], {"x": ("n", 3), "z": (3,)})
    _, facts = load(ir.from_proto(proto), dims={"n": (1, 5)})
    assert "length" in facts.problems[0].reason
