"""Facts about values: constants folded as the runtime computes them, branches taken, problems in one list."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend import Facts, load, make_node, raise_if_unsupported, report
from compiler.frontend.dims import dim_text
from edgert.errors import UnsupportedModel
from targets.kernels.tensor import Tensor

from .models import model, node, save


def run(*args: object, dims: dict | None = None, **kwargs: object) -> tuple[ir.Model, Facts]:
    return load(ir.from_proto(model(*args, **kwargs)), dims=dims)  # type: ignore[arg-type]


def ops(read: ir.Model) -> list[str]:
    return [n.op_type for n in read.graph]


# ---- constants -------------------------------------------------------------------------------------------------------
FLOATS = np.array([[-2.5, 0.5], [1.5, 3.0]], np.float32)
FOLDED = {
    "arithmetic": [node("Mul", "c c", "a"), node("Sub", "a c", "b"), node("Sqrt", "a", "d"), node("Add", "b d", "y")],
    "exp": [node("Exp", "c", "y")],
    "softmax": [node("Softmax", "c", "y", axis=1)],
    "matmul": [node("MatMul", "c c", "y")],
    "movement": [node("Transpose", "c", "a"), node("Concat", "a c", "b", axis=1), node("Flatten", "b", "y")],
    "round to even": [node("Round", "c", "y")],
    "reduce": [node("ReduceMean", "c", "y", axes=[1])],
}


@pytest.mark.parametrize("what", FOLDED)
def test_constants_fold_to_what_the_runtime_computes(what: str) -> None:
    proto = model(FOLDED[what], {"x": (1,)}, constants={"c": FLOATS})
    read, facts = load(ir.from_proto(proto))
    assert not ops(read)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": np.zeros(1, np.float32)})[0]
    # transcendental functions differ in the last place between two maths libraries
    np.testing.assert_allclose(facts.constants["y"], expected, rtol=2e-7)
    assert facts.constants["y"].dtype == expected.dtype


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8", "uint16", "bool"])
def test_constants_of_other_types_fold(kind: str) -> None:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(kind)) if kind != "bfloat16" else TensorProto.BFLOAT16
    read, facts = run([node("Cast", "c", "y", to=to)], {}, constants={"c": np.abs(FLOATS)}, types={"y": to})
    assert facts.values["y"].dtype == kind
    assert str(facts.constants["y"].dtype) == kind
    assert not ops(read)


@pytest.mark.parametrize(
    ("attr", "expected"),
    [
        ({"value": numpy_helper.from_array(FLOATS)}, FLOATS),
        ({"value_int": 7}, np.array(7)),
        ({"value_ints": [7, 8]}, np.array([7, 8])),
        ({"value_float": 0.1}, np.array(0.1, np.float32)),
        ({"value_floats": [0.1, 2]}, np.array([0.1, 2], np.float32)),
    ],
)
def test_literals(attr: dict, expected: np.ndarray) -> None:
    kind = helper.np_dtype_to_tensor_dtype(expected.dtype)
    read, facts = run([node("Constant", "", "y", **attr)], {}, types={"y": kind})
    np.testing.assert_array_equal(facts.constants["y"], expected)
    assert facts.constants["y"].dtype == expected.dtype
    assert not ops(read)


def test_large_results_stay_in_the_graph() -> None:
    shape = np.array([1 << 20])
    read, facts = run([node("Expand", "c s", "a"), node("Add", "a x", "y")], {"x": (1,)},
                      constants={"c": np.ones(1, np.float32), "s": shape})  # fmt: skip
    assert ops(read) == ["Expand", "Add"]
    assert facts.values["y"].shape == (1 << 20,)


def test_a_fill_takes_no_memory_and_becomes_a_weight_where_it_is_one() -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
    fill = node("ConstantOfShape", "s", "w", value=value)
    read, facts = run(
        [fill, node("Conv", "x w", "y")], {"x": (1, 512, 9, 9)}, constants={"s": np.array([512, 512, 3, 3])}
    )
    assert ops(read) == ["Conv"]
    weight = facts.constants["w"]
    assert weight.shape == (512, 512, 3, 3)
    assert weight.strides == (0, 0, 0, 0)
    assert float(weight[3, 4, 1, 2]) == 0.5


def test_absurd_fills_are_not_made() -> None:
    read, facts = run([node("ConstantOfShape", "s", "y")], {}, constants={"s": np.array([2**31, 2**20])})
    assert ops(read) == ["ConstantOfShape"]
    read, facts = run([node("Range", "a b c", "y")], {}, types={"y": TensorProto.INT64},
                      constants={"a": np.array(0), "b": np.array(2**60), "c": np.array(1)})  # fmt: skip
    assert "y" not in facts.constants


def test_quantized_weights_stay_quantized() -> None:
    constants = {
        "q": np.arange(6, dtype=np.int8).reshape(2, 3),
        "s": np.array(0.5, np.float32),
        "z": np.array(0, np.int8),
    }
    read, _ = run([node("DequantizeLinear", "q s z", "w"), node("Add", "x w", "y")], constants=constants)
    assert ops(read) == ["DequantizeLinear", "Add"]


def test_random_numbers_are_not_folded() -> None:
    read, _ = run([node("RandomNormalLike", "c", "y")], {}, constants={"c": FLOATS})
    assert ops(read) == ["RandomNormalLike"]


def test_unread_nodes_go_supported_or_not() -> None:
    read, facts = run([node("Relu", "x", "y"), node("Nonsense", "x", "unread"), node("Neg", "unread", "either")])
    assert ops(read) == ["Relu"]
    assert not facts.problems


# ---- branches --------------------------------------------------------------------------------------------------------
def branch(nodes: list, outputs: str, constants: dict | None = None) -> onnx.GraphProto:
    made = [helper.make_empty_tensor_value_info(n) for n in outputs.split()]
    return helper.make_graph(
        nodes, "b", [], made, [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    )


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_takes_its_branch(condition: bool) -> None:
    then = branch([node("Add", "x k", "t"), node("Relu", "t", "r")], "r", {"k": np.ones(3, np.float32)})
    other = branch([node("Mul", "x k", "t"), node("Abs", "t", "r")], "r", {"k": np.ones(3, np.float32)})
    read, facts = run([node("If", "c", "a", then_branch=then, else_branch=other), node("Neg", "a", "y")],
                      constants={"c": np.array(condition)})  # fmt: skip
    assert ops(read) == (["Add", "Relu", "Neg"] if condition else ["Mul", "Abs", "Neg"])
    assert facts.values["y"].shape == (2, 3)
    assert not facts.problems


def test_branches_that_hand_outer_values_through(tmp_path: Path) -> None:
    same = branch([], "x x k", {"k": np.ones(3, np.float32)})
    other = branch([], "x x k", {"k": np.zeros(3, np.float32)})
    nodes = [
        node("If", "c", "a b d", then_branch=same, else_branch=other),
        node("Add", "a b", "e"),
        node("Add", "e d", "y"),
    ]
    read, facts = load(save(tmp_path / "m.onnx", model(nodes, constants={"c": np.array(False)})))
    assert not facts.problems
    assert [v.name for v in read.graph.outputs] == ["y"]
    assert ops(read).count("Add") == 2


def test_nested_branches() -> None:
    inner = branch([node("If", "c2", "i", then_branch=branch([node("Relu", "o", "r")], "r"),
                         else_branch=branch([node("Abs", "o", "r")], "r"))], "i")  # fmt: skip
    nodes = [node("Neg", "x", "o"), node("If", "c1", "y", then_branch=inner, else_branch=inner)]
    read, facts = run(nodes, constants={"c1": np.array(True), "c2": np.array(False)})
    assert ops(read) == ["Neg", "Abs"]
    assert not facts.problems


# ---- unsupported -----------------------------------------------------------------------------------------------------
def test_all_problems_come_at_once() -> None:
    nodes = [
        node("Nonsense", "x", "a"),
        node("Relu", "a", "b"),
        node("Add", "x b", "c"),
        node("Gibberish", "c", "d"),
        node("Abs", "d", "e"),
        node("Foo", "e", "y", "local"),
        node("StringSplit", "x", "s n"),
        node("Cast", "n", "m", to=1),
    ]
    _, facts = run(nodes, outputs="y m")
    assert [p.op for p in facts.problems] == ["Nonsense", "Gibberish", "Foo", "StringSplit"]
    assert facts.problems[0].node == "n_a"
    assert facts.problems[0].opset == 17
    assert facts.problems[2].domain == "local"
    with pytest.raises(UnsupportedModel) as caught:
        raise_if_unsupported(facts.problems)
    assert caught.value.exit_code == 3
    for word in ("4 nodes", "Nonsense", "Gibberish", "local.Foo", "n_a", "opset", "reason", "nearest"):
        assert word in str(caught.value)


def test_what_follows_an_unsupported_node_is_still_checked() -> None:
    """ImageDecoder has no lowering, but ONNX knows the type of what it gives, and the model the shape."""
    nodes = [node("ImageDecoder", "x", "i"), node("Cast", "i", "f", to=1), node("MatMul", "f w", "y")]
    proto = model(nodes, {"x": (10,)},
                  constants={"w": np.ones((4, 5), np.float32)}, opset=20, types={"x": TensorProto.UINT8})  # fmt: skip
    proto.graph.value_info.append(helper.make_tensor_value_info("i", TensorProto.UINT8, [8, 8, 3]))
    _, facts = load(ir.from_proto(proto))
    assert [p.op for p in facts.problems] == ["ImageDecoder", "MatMul"]


def test_inputs_that_are_no_tensors() -> None:
    proto = model([node("SequenceAt", "x i", "y")], constants={"i": np.array(0)})
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    proto.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(tensor))
    proto.graph.input.append(helper.make_tensor_value_info("names", TensorProto.STRING, [1]))
    _, facts = load(ir.from_proto(proto))
    assert {p.node for p in facts.problems} >= {"x", "names"}


def test_malformed_nodes_are_problems_not_tracebacks() -> None:
    _, facts = run([node("MatMul", "x x", "a"), node("Concat", "x x", "b", axis=7), node("Add", "a b", "y")])
    assert {p.op for p in facts.problems} == {"MatMul", "Concat"}


def test_a_wrongly_declared_output_is_reported() -> None:
    _, facts = run([node("Relu", "x", "y")], types={"y": TensorProto.INT64})
    assert "int64" in facts.problems[0].reason
    with pytest.raises(UnsupportedModel):
        raise_if_unsupported(facts.problems)


# ---- the handlers' view ----------------------------------------------------------------------------------------------
def test_make_node() -> None:
    nodes = [node("Shape", "x", "s"), node("Concat", "s k", "r", axis=0), node("Reshape", "x r", "y", allowzero=1)]
    read, facts = run(nodes, {"x": ("n", 3)}, dims={"n": (1, 5)}, constants={"k": np.array([1])})  # fmt: skip
    reshape = next(n for n in read.graph if n.op_type == "Reshape")
    view = make_node(reshape, facts, lambda name: Tensor(facts.values[name].shape, facts.values[name].dtype, name))
    assert (view.op, view.domain, view.version, view.attr("allowzero")) == ("Reshape", "", 17, 1)
    assert [t.name for t in view.inputs if t is not None] == ["x", "r"]
    assert [dim_text(d) for d in view.ints(1, "shape") or []] == ["n", "3", "1"]
    assert view.const(0) is None
    assert view.const(1) is None
    assert view.outputs == [True]
    assert view.output_shapes == [facts.values["y"].shape]


def test_fresh_dims_are_the_same_each_time() -> None:
    read, facts = run([node("Relu", "x", "y")])
    first, second = (
        make_node(next(iter(read.graph)), facts, lambda name: Tensor((2, 3), "float32", name)) for _ in "ab"
    )
    assert first.fresh is not None
    assert second.fresh is not None
    assert first.fresh("count", 6).same_as(second.fresh("count", 6))
    assert facts.bounds == {"count_of_y": (0, 6)}
    assert facts.fresh == {"count_of_y"}


def test_report() -> None:
    read, facts = run([node("Relu", "x", "a"), node("Add", "a w", "y")], {"x": ("batch", "seq")}, dims={"seq": (1, 8)},
                      constants={"w": np.ones((3, 1, 1), np.float32)})  # fmt: skip
    made = report(read, facts)
    assert made.operators == {"Relu": 1, "Add": 1}
    assert (made.weight_count, made.weight_bytes) == (3, 12)
    assert made.inputs[0].shape == (1, "seq")
    assert made.dims == {"seq": (1, 8)}
    assert made.supported
    data = made.json()
    assert data["supported"] is True
    assert data["outputs"][0] == {"name": "y", "dtype": "float32", "shape": (3, 1, "seq")}
    assert "batch" in made.text()
