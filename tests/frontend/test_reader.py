"""What is no well-formed model is refused in one line that names the thing at fault."""

import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compiler.frontend import load, read_model
from edgert.errors import EdgertError, UnsupportedModel

from .models import model, node, save
from .refuse import ADD, WEIGHTS, refuse, small


# ---- files that are no models --------------------------------------------------------------------------------------
def test_no_file(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "none.onnx", "no such file")
    refuse(tmp_path, "not a file")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    refuse(path, "m.onnx", "empty")


@pytest.mark.parametrize("content", [random.Random(1).randbytes(10_000), b"hello, world", b"\0" * 100, b"\x08\x0a"])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refuse(path, "not an ONNX model")


def test_cut_at_every_length(tmp_path: Path) -> None:
    proto = model([node("Add", "x w", "a"), node("Relu", "a", "y")], {"x": (4,)}, constants={"w": WEIGHTS[:4]})
    del proto.opset_import[1]  # of the domain that nothing here uses: without it the model would still be whole
    whole = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            read_model(path)
        except EdgertError as error:
            assert "\n" not in str(error)
        else:
            pytest.fail(f"a model cut at byte {length} of {len(whole)} was read")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused_in_one_line(tmp_path: Path, place: int, value: int) -> None:
    content = bytearray(model([node("Add", "x w", "a"), node("Relu", "a", "y")], {"x": (4,)},
                              constants={"w": WEIGHTS[:4]}).SerializeToString())  # fmt: skip
    content[place % len(content)] = value
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    try:
        load(path)
    except EdgertError as error:
        assert "\n" not in str(error)


# ---- versions --------------------------------------------------------------------------------------------------------
def test_versions(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in (6, newest + 1):
        proto = model(ADD, {"x": (3000,)}, constants={"w": WEIGHTS}, opset=opset)
        refuse(save(tmp_path / "m.onnx", proto), f"opset is {opset}", f"7 to {newest}", error=UnsupportedModel)
    for opset in (7, newest):
        load(save(tmp_path / "m.onnx", model(ADD, {"x": (3000,)}, constants={"w": WEIGHTS}, opset=opset)))
    proto = small()
    proto.ir_version = onnx.IR_VERSION + 1
    refuse(save(tmp_path / "m.onnx", proto), "IR version", error=UnsupportedModel)
    proto = small()
    del proto.opset_import[:]
    refuse(save(tmp_path / "m.onnx", proto), "no opset")


# ---- graphs ----------------------------------------------------------------------------------------------------------
GRAPHS: dict[str, tuple[Callable[[], onnx.ModelProto], list[str]]] = {
    "cycle": (
        lambda: model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]),
        ["cycle", "n_a"],
    ),
    "self loop": (lambda: model([node("Add", "x y", "y")]), ["cycle", "n_y"]),
    "undefined": (lambda: model([node("Add", "x nowhere", "y")]), ["n_y", "'nowhere'"]),
    "defined twice": (lambda: model([node("Relu", "x", "y"), node("Abs", "x", "y")]), ["'y'", "twice"]),
    "overwrites an input": (lambda: model([node("Relu", "x", "x"), node("Abs", "x", "y")]), ["'x'", "twice"]),
    "no such output": (lambda: model([node("Relu", "x", "z")]), ["output 'y'"]),
    "no outputs": (lambda: model([node("Relu", "x", "y")], outputs=""), ["no outputs"]),
    "negative dimension": (lambda: model([node("Relu", "x", "y")], {"x": (-5, 2)}), ["input x", "-5"]),
    "absurd dimension": (lambda: model([node("Relu", "x", "y")], {"x": (2**60, 2)}), ["input x", "absurd"]),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_malformed_graphs(tmp_path: Path, what: str) -> None:
    make, words = GRAPHS[what]
    refuse(save(tmp_path / "m.onnx", make()), *words)


def test_two_initializers_of_one_name(tmp_path: Path) -> None:
    proto = small()
    proto.graph.initializer.append(proto.graph.initializer[0])
    refuse(save(tmp_path / "m.onnx", proto), "'w'", "unique")


def test_recursive_functions(tmp_path: Path) -> None:
    made = [
        helper.make_function("local", name, ["a"], ["b"], [helper.make_node(calls, ["a"], ["b"], domain="local")],
                             [helper.make_opsetid("local", 1)])
        for name, calls in (("f", "g"), ("g", "f"))
    ]  # fmt: skip
    refuse(save(tmp_path / "m.onnx", model([node("f", "x", "y", "local")], functions=made)), "calls itself")


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    proto = model([node("Relu", "a", "y"), node("Abs", "x", "a")])
    read, facts = load(save(tmp_path / "m.onnx", proto))
    assert [n.op_type for n in read.graph] == ["Abs", "Relu"]
    assert facts.values["y"].shape == (2, 3)


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    proto = model(ADD, {"x": (3000,), "w": (3000,)}, constants={"w": WEIGHTS})
    read, _ = load(save(tmp_path / "m.onnx", proto))
    assert [v.name for v in read.graph.inputs] == ["x"]


def test_branches_may_use_the_same_names(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(op, "x", "t"), node("Neg", "t", "r")], op, [], [helper.make_empty_tensor_value_info("r")]
        )

    nodes = [node("If", "c", "y", then_branch=branch("Relu"), else_branch=branch("Abs"))]
    read = read_model(save(tmp_path / "m.onnx", model(nodes, {"x": (2, 3), "c": ()}, types={"c": TensorProto.BOOL})))
    names = [v.name for g in read.graph.subgraphs() for n in g for v in n.outputs]
    assert len(set(names)) == len(names) == 4
