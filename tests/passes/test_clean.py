"""Dead code, common subexpressions, and the verifier that watches over all passes."""

import numpy as np
import onnx_ir as ir
import pytest

from compiler.passes import common_subexpressions, dead_code
from compiler.verify import BrokenGraph, verify
from tests.passes.conftest import TARGET

SIGNATURE = "(float[2, 6] x) -> (float[2, 6] y)"


def test_dead_chain(graph):
    g = graph(SIGNATURE, "y = Neg(x)")
    edit = g.edit()
    unused = edit.insert(edit.graph[-1], "Exp", [edit.insert(edit.graph[-1], "Abs", [edit.graph.inputs[0]])])
    assert len(edit.graph) == 3
    assert unused.producer() is not None
    assert dead_code.run(edit, TARGET)
    assert [n.op_type for n in edit.graph] == ["Neg"]
    assert not dead_code.run(edit, TARGET)


def test_equal_nodes_become_one(graph):
    body = "a = Mul(x, two) b = Mul(x, two) c = Exp(a) d = Exp(b) y = Add(c, d)"
    g = graph(SIGNATURE, body, two=2.0)
    assert g.after(common_subexpressions.run) == ["Mul", "Exp", "Add"]
    g.same_as_reference(rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    ["a = Elu <alpha = 1.0> (x) b = Elu <alpha = 2.0> (x) y = Add(a, b)",
     "a = Sub(x, two) b = Sub(two, x) y = Mul(a, b)",
     "a = Cast <to = 7> (x) b = Cast <to = 6> (x) c = Cast <to = 1> (a) d = Cast <to = 1> (b) y = Add(c, d)"],
)  # fmt: skip
def test_different_nodes_stay(graph, body):
    g = graph(SIGNATURE, body, **({"two": 2.0} if "two" in body else {}))
    before = len(g.edit().graph)
    assert len(g.after(common_subexpressions.run)) == before


def test_equal_outputs_stay(graph):
    g = graph("(float[2, 6] x) -> (float[2, 6] y, float[2, 6] z)", "y = Neg(x) z = Neg(x)")
    assert g.after(common_subexpressions.run) == ["Neg", "Neg"]
    g.same_as_reference()


# ---- the verifier --------------------------------------------------------------------------------------------------
def test_sound_graph(graph):
    edit = graph(SIGNATURE, "a = Exp(x) y = Neg(a)").edit()
    verify(edit.model, edit.facts, "a test")


def test_dangling_value(graph):
    edit = graph(SIGNATURE, "a = Exp(x) y = Neg(a)").edit()
    edit.graph[1].replace_input_with(0, ir.Value(name="nowhere"))
    with pytest.raises(BrokenGraph, match=r"after a test: Neg .*nowhere"):
        verify(edit.model, edit.facts, "a test")


def test_read_before_made(graph):
    edit = graph(SIGNATURE, "a = Exp(x) y = Neg(a)").edit()
    first = edit.graph[0]
    edit.graph.remove(first)
    edit.graph.append(first)
    with pytest.raises(BrokenGraph, match="reads a"):
        verify(edit.model, edit.facts, "a test")


def test_made_twice(graph):
    edit = graph(SIGNATURE, "a = Exp(x) b = Abs(a) y = Neg(b)").edit()
    edit.graph[1].outputs[0].name = "a"
    with pytest.raises(BrokenGraph, match="a is made twice"):
        verify(edit.model, edit.facts, "a test")


def test_nothing_known(graph):
    edit = graph(SIGNATURE, "a = Exp(x) y = Neg(a)").edit()
    edit.facts.forget("a")
    with pytest.raises(BrokenGraph, match="nothing is known of a"):
        verify(edit.model, edit.facts, "a test")


def test_output_never_made(graph):
    edit = graph(SIGNATURE, "a = Exp(x) y = Neg(a)").edit()
    edit.graph.remove(edit.graph[1])
    with pytest.raises(BrokenGraph, match="output y"):
        verify(edit.model, edit.facts, "a test")


def test_constants_are_known(graph):
    g = graph(SIGNATURE, "y = Add(x, k)", k=np.ones(6, np.float32))
    assert g.after(common_subexpressions.run) == ["Add"]
