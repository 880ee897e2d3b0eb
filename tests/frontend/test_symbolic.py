"""Shape arithmetic over symbolic dims gives, for any value of the dims, the numbers that ONNX Runtime computes."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from compiler.frontend import load
from compiler.frontend.dims import dim_text
from targets.kernels.tensor import extent

from .models import model, node

I64 = np.int64
CONSTANTS = {
    "zero": np.array([0], I64), "one": np.array([1], I64), "two": np.array([2], I64), "three": np.array([3], I64),
    "s0": np.array(0, I64), "s1": np.array(1, I64), "s2": np.array(2, I64), "s3": np.array(3, I64),
    "minus": np.array([-1], I64), "last": np.array([2**62], I64), "m2": np.array(-2, I64), "idx": np.array([2, 0, -2]),
    "four": np.array([4], I64), "idx32": np.array([1], np.int32), "shape13": np.array([1, 3], I64),
    "sixteen": np.array([16], I64), "yes": np.array([True, False, True]),
}  # fmt: skip
SHAPE = node("Shape", "x", "s")  # n, m, 4
PROGRAMS: dict[str, list[onnx.NodeProto]] = {
    "shape": [node("Shape", "x", "y")],
    "shape from 1": [node("Shape", "x", "y", start=1)],
    "shape to -1": [node("Shape", "x", "y", start=-9, end=-1)],
    "size": [node("Size", "x", "y")],
    "gather": [SHAPE, node("Gather", "s s1", "y")],
    "gather many": [SHAPE, node("Gather", "s idx", "y")],
    "gather by int32": [SHAPE, node("Gather", "s idx32", "y")],
    "slice": [SHAPE, node("Slice", "s zero two", "y")],
    "slice to the end": [SHAPE, node("Slice", "s one last zero", "y")],
    "slice backwards": [SHAPE, node("Slice", "s last minus zero minus", "e"), node("Concat", "e s", "y", axis=0)],
    "reverse": [SHAPE, node("Neg", "last", "f"), node("Slice", "s minus f zero minus", "y")],
    "concat": [SHAPE, node("Slice", "s zero one", "a"), node("Concat", "a minus four", "y", axis=0)],
    "unsqueeze and squeeze": [SHAPE, node("Gather", "s s0", "a"), node("Unsqueeze", "a zero", "b"),
                              node("Unsqueeze", "b one", "c"), node("Squeeze", "c", "y")],
    "arithmetic": [SHAPE, node("Gather", "s s0", "n"), node("Gather", "s s1", "m"), node("Mul", "n m", "a"),
                   node("Add", "a s3", "b"), node("Sub", "b n", "c"), node("Div", "c s2", "y")],
    "division of a negative": [SHAPE, node("Gather", "s s0", "n"), node("Sub", "n s3", "a"), node("Div", "a s2", "b"),
                               node("Mul", "b s2", "y")],
    "mod": [SHAPE, node("Mod", "s three", "y")],
    "mod of a negative": [SHAPE, node("Sub", "s sixteen", "a"), node("Mod", "a three", "y")],
    "fmod of a negative": [SHAPE, node("Sub", "s sixteen", "a"), node("Mod", "a three", "y", fmod=1)],
    "min and max": [SHAPE, node("Min", "s four", "a"), node("Max", "a two", "y")],
    "max of one": [SHAPE, node("Max", "s", "y")],
    "reduce": [SHAPE, node("ReduceProd", "s", "a", keepdims=1), node("ReduceSum", "s zero", "b", keepdims=1),
               node("Concat", "a b", "y", axis=0)],
    "reduce to a scalar": [SHAPE, node("ReduceMax", "s", "y", keepdims=0)],
    "where": [SHAPE, node("Equal", "s minus", "c"), node("Where", "c four s", "y")],
    "where by a constant": [SHAPE, node("Where", "yes s minus", "y")],
    "cast and back": [SHAPE, node("Cast", "s", "a", to=6), node("Cast", "a", "y", to=7)],
    "cast to int32": [SHAPE, node("Cast", "s", "y", to=6)],
    "expand": [SHAPE, node("Unsqueeze", "s one", "a"), node("Expand", "a shape13", "y")],
    "tile": [SHAPE, node("Tile", "s two", "y")],
    "reshape": [SHAPE, node("Reshape", "s shape13", "y")],
    "flatten": [SHAPE, node("Flatten", "s", "y", axis=0)],
    "of a transposed tensor": [node("Transpose", "x", "t", perm=[1, 2, 0]), node("Shape", "t", "y")],
    "of a reshaped tensor": [node("Concat", "zero minus", "r", axis=0), node("Reshape", "x r", "t"),
                             node("Shape", "t", "y")],
    "of a computed reshape": [SHAPE, node("Slice", "s zero one", "a"), node("Concat", "a minus two", "r", axis=0),
                              node("Reshape", "x r", "t"), node("Shape", "t", "y")],
}  # fmt: skip


def proto(nodes: Sequence[onnx.NodeProto], kind: int = TensorProto.INT64) -> onnx.ModelProto:
    return model(nodes, {"x": ("n", "m", 4)}, constants=CONSTANTS, types={"y": kind})


@pytest.mark.parametrize("what", PROGRAMS)
def test_symbolic_values(what: str) -> None:
    kind = TensorProto.INT32 if what == "cast to int32" else TensorProto.INT64
    made = proto(PROGRAMS[what], kind)
    _, facts = load(ir.from_proto(made), dims={"n": (1, 40), "m": (2, 30)})
    value = facts.symbolic["y"]
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    for n, m in [(1, 2), (3, 5), (40, 30), (4, 16)]:
        expected = session.run(None, {"x": np.zeros((n, m, 4), np.float32)})[0]
        dims = {"n": n, "m": m}
        found = np.array([extent(v, dims) for v in value.reshape(-1)]).reshape(value.shape)
        np.testing.assert_array_equal(found, expected)
        assert facts.values["y"].shape == expected.shape
        assert facts.values["y"].dtype == str(expected.dtype)


@pytest.mark.parametrize("what", PROGRAMS)
def test_the_same_programs_fold_away_where_shapes_are_fixed(what: str) -> None:
    kind = TensorProto.INT32 if what == "cast to int32" else TensorProto.INT64
    made = proto(PROGRAMS[what], kind)
    read, facts = load(ir.from_proto(made), dims={"n": (3, 3), "m": (5, 5)})
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": np.zeros((3, 5, 4), np.float32)})[0]
    np.testing.assert_array_equal(facts.constants["y"], expected)
    assert facts.constants["y"].dtype == expected.dtype
    assert len(read.graph) == 0


def test_shapes_follow_from_symbolic_values() -> None:
    nodes = [
        SHAPE,
        node("Slice", "s zero two", "a"),
        node("Concat", "a two minus", "r", axis=0),
        node("Reshape", "x r", "y"),
    ]
    _, facts = load(ir.from_proto(proto(nodes, TensorProto.FLOAT)), dims={"n": (1, 9), "m": (1, 9)})
    assert [dim_text(d) for d in facts.values["y"].shape] == ["n", "m", "2", "2"]
    assert not facts.problems


def test_comparisons_that_the_bounds_leave_open_stay_unknown() -> None:
    nodes = [SHAPE, node("Gather", "s s0", "n"), node("Greater", "n s3", "c"), node("Where", "c n s3", "y")]
    for bounds, known in (((1, 9), False), ((4, 9), True)):
        _, facts = load(ir.from_proto(proto(nodes)), dims={"n": bounds, "m": (1, 9)})
        assert ("y" in facts.symbolic) == known


def test_a_condition_that_the_bounds_decide_takes_a_branch() -> None:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([node(op, "x", "r")], op, [], [helper.make_empty_tensor_value_info("r")])

    nodes = [SHAPE, node("Gather", "s s0", "n"), node("Greater", "n s3", "c"),
             node("If", "c", "y", then_branch=branch("Relu"), else_branch=branch("Abs"))]  # fmt: skip
    for bounds, op in (((4, 9), "Relu"), ((1, 3), "Abs")):
        read, facts = load(ir.from_proto(proto(nodes, TensorProto.FLOAT)), dims={"n": bounds, "m": (1, 9)})
        assert not facts.problems
        assert [n.op_type for n in read.graph] == [op]


def test_a_dimension_that_would_be_negative_is_refused() -> None:
    nodes = [SHAPE, node("Gather", "s s0", "n"), node("Sub", "n s3", "d"), node("Unsqueeze", "d zero", "r"),
             node("ConstantOfShape", "r", "y")]  # fmt: skip
    _, facts = load(ir.from_proto(proto(nodes, TensorProto.FLOAT)), dims={"n": (1, 9), "m": (1, 9)})
    assert "would be -2" in facts.problems[0].reason
    _, facts = load(ir.from_proto(proto(nodes, TensorProto.FLOAT)), dims={"n": (3, 9), "m": (1, 9)})
    assert not facts.problems
