"""Functions are inlined where an operator has no lowering: the model's own, and those of ONNX's definitions."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

from compiler.frontend import Facts, functions, load
from compiler.frontend.functions import Inliner
from edgert.errors import EdgertError

from .models import model, node

LOCAL = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


def function(name: str, inputs: str, outputs: str, nodes: list, attributes: list | None = None, opset: int = 17,
             defaults: list | None = None) -> onnx.FunctionProto:  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs.split(), outputs.split(), nodes, opsets, attributes or [],
                                defaults or [])  # fmt: skip


def ref(made: onnx.NodeProto, name: str, of: str, kind: int) -> onnx.NodeProto:
    """Adds an attribute that refers to the function's attribute `of`."""
    made.attribute.add(name=name, ref_attr_name=of, type=kind)
    return made


def same_answers(proto: onnx.ModelProto, read: ir.Model) -> None:
    """The graph after inlining computes what the model did."""
    inlined = ir.to_proto(read)
    inlined.ClearField("functions")
    for entry in inlined.graph.input:
        assert entry.type.tensor_type.HasField("shape")
    rng = np.random.default_rng(1)
    feed = {v.name: rng.standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]).astype(np.float32)
            for v in proto.graph.input}  # fmt: skip
    before, after = (ort.InferenceSession(p.SerializeToString()).run(None, feed) for p in (proto, inlined))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_nested_functions_with_attributes() -> None:
    scale = function(
        "scale", "a", "b", [ref(node("Constant", "", "k"), "value_float", "by", 1), node("Mul", "a k", "b")], ["by"]
    )
    leaky = ref(node("LeakyRelu", "t", "r"), "alpha", "slope", 1)
    outer = function("outer", "a", "r", [ref(node("scale", "a", "t", "local"), "by", "factor", 1), leaky], ["factor"],
                     defaults=[helper.make_attribute("slope", 0.25)])  # fmt: skip
    nodes = [node("outer", "x", "a", "local", factor=3.0), node("outer", "a", "b", "local", factor=0.5, slope=0.75),
             node("Add", "a b", "y")]  # fmt: skip
    proto = model(nodes, functions=[scale, outer])
    read, facts = load(ir.from_proto(proto))
    assert not facts.problems
    assert [n.op_type for n in read.graph] == ["Mul", "LeakyRelu", "Mul", "LeakyRelu", "Add"]
    assert facts.values["y"].shape == (2, 3)
    same_answers(proto, read)


def test_omitted_inputs_and_outputs_and_pass_through() -> None:
    clip = function("f", "a low high", "b c", [node("Clip", "a low high", "b"), node("Identity", "a", "c")])
    keep = function("g", "a", "b", [node("Identity", "a", "b")])
    nodes = [node("f", "x _ top", "p _", "local"), node("g", "p", "q", "local"), node("f", "q", "r s", "local"),
             node("Add", "r s", "y")]  # fmt: skip
    proto = model(nodes, constants={"top": np.array(0.5, np.float32)}, functions=[clip, keep])
    read, facts = load(ir.from_proto(proto))
    assert not facts.problems
    same_answers(proto, read)


def test_a_function_that_hands_its_input_through() -> None:
    both = function("both", "a b", "b a", [])
    proto = model(
        [node("both", "x z", "p q", "local"), node("Sub", "p q", "y")], {"x": (3,), "z": (3,)}, functions=[both]
    )
    read, facts = load(ir.from_proto(proto))
    assert not facts.problems
    sub = next(n for n in read.graph if n.op_type == "Sub")
    sources = [v.producer().inputs[0].name if v.producer() else v.name for v in sub.inputs]
    assert sources == ["z", "x"]


def test_functions_with_subgraphs() -> None:
    then = helper.make_graph([node("Mul", "a a", "t")], "t", [], [helper.make_empty_tensor_value_info("t")])
    other = helper.make_graph([node("Neg", "a", "t")], "e", [], [helper.make_empty_tensor_value_info("t")])
    body = function("f", "a c", "b", [node("If", "c", "b", then_branch=then, else_branch=other)])
    nodes = [node("f", "x yes", "p", "local"), node("f", "p no", "y", "local")]
    proto = model(nodes, constants={"yes": np.array(True), "no": np.array(False)}, functions=[body])
    read, facts = load(ir.from_proto(proto))
    assert not facts.problems
    assert [n.op_type for n in read.graph] == ["Mul", "Neg"]
    same_answers(proto, read)


def test_the_function_s_own_opset_counts() -> None:
    """In opset 12 ReduceSum's axes are an attribute, in the model's 17 an input."""
    old = function("total", "a", "b", [node("ReduceSum", "a", "b", axes=[1], keepdims=0)], opset=12)
    read, facts = load(ir.from_proto(model([node("total", "x", "y", "local")], functions=[old])))
    assert not facts.problems
    assert facts.values["y"].shape == (2,)
    assert next(iter(read.graph)).version == 12


def test_functions_that_double_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MAX_NODES", 3000)
    made = [function("f0", "a", "b", [node("Relu", "a", "b")])]
    for i in range(1, 40):
        calls = [node(f"f{i - 1}", "a", "t", "local"), node(f"f{i - 1}", "t", "b", "local")]
        made.append(function(f"f{i}", "a", "b", calls))
    with pytest.raises(EdgertError, match="simplify"):
        load(ir.from_proto(model([node("f39", "x", "y", "local")], functions=made)))


@pytest.mark.parametrize(
    ("op", "attrs", "inputs"),
    [
        ("MeanVarianceNormalization", {"axes": [0, 2, 3]}, "x"),
        ("LayerNormalization", {"axis": -1}, "x s s"),
        ("Softmax", {"axis": 1}, "x"),
        ("LogSoftmax", {"axis": -1}, "x"),
        ("HardSwish", {}, "x"),
        ("Celu", {"alpha": 2.0}, "x"),
        ("ReduceLogSumExp", {"keepdims": 1}, "x"),
        ("GreaterOrEqual", {}, "x x"),
    ],
)
def test_onnx_s_own_function_bodies(op: str, attrs: dict, inputs: str) -> None:
    """Expanding an operator by its schema's body, plain or dependent on types, gives the operator."""
    kinds = {"y": onnx.TensorProto.BOOL} if op == "GreaterOrEqual" else {}
    proto = model([node(op, inputs, "y", **attrs)], {"x": (2, 3, 4, 5)}, constants={"s": np.ones(5, np.float32)},
                  opset=18, types=kinds)  # fmt: skip
    _, facts = load(ir.from_proto(proto))
    fresh = ir.from_proto(proto)
    made = Inliner(fresh, facts).inline(next(iter(fresh.graph)))
    assert made
    assert op not in [n.op_type for n in fresh.graph]
    assert [v.name for v in fresh.graph.outputs] == ["y"]
    # its nodes carry their own opset; one they share lets ONNX Runtime judge
    versions = {n.version for n in made if n.domain == ""}
    assert len(versions) == 1
    inlined = ir.to_proto(fresh)
    del inlined.opset_import[:]
    inlined.opset_import.extend([helper.make_opsetid("", versions.pop() or 18)])
    feed = {"x": np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)}
    before, after = (ort.InferenceSession(p.SerializeToString()).run(None, feed)[0] for p in (proto, inlined))
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)


def test_local_functions_win_over_operators() -> None:
    """A model may define an operator of a domain anew; its definition is the one in force."""
    mine = function("Relu", "a", "b", [node("Neg", "a", "b")])
    read, _ = load(ir.from_proto(model([node("Relu", "x", "y", "local")], functions=[mine])))
    assert [n.op_type for n in read.graph] == ["Neg"]


def test_names_stay_unique() -> None:
    twice = function("f", "a", "b", [node("Relu", "a", "t"), node("Neg", "t", "b")])
    nodes = [node("f", "x", "t", "local"), node("f", "t", "b", "local"), node("f", "b", "y", "local")]
    read, facts = load(ir.from_proto(model(nodes, functions=[twice])))
    names = [v.name for n in read.graph for v in n.outputs]
    assert len(set(names)) == len(names) == 6
    assert isinstance(facts, Facts)
