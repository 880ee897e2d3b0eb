"""What is no well-formed model is refused in one line that names the thing; what is one is read without copying it."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compiler.frontend import load, read_model
from compiler.frontend.wire import _varint, strip
from edgert.errors import EdgertError, UnsupportedModel

from .models import external, model, node, save

WEIGHTS = np.arange(3000, dtype=np.float32)
ADD = [node("Add", "x w", "y")]


def small() -> onnx.ModelProto:
    return model(ADD, {"x": (3000,)}, constants={"w": WEIGHTS})


def refuse(path: Path, *words: str, error: type[EdgertError] = EdgertError) -> None:
    with pytest.raises(EdgertError) as caught:
        load(path)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


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


# ---- stored tensors --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dims", "words"),
    [([-3000], ["negative"]), ([2**60], ["absurd"]), ([2**31, 2**31], ["absurd"]), ([3001], ["12000 bytes", "12004"])],
)
@pytest.mark.parametrize("mapped", [True, False])
def test_tensors_whose_shape_lies(tmp_path: Path, dims: list[int], words: list[str], mapped: bool) -> None:
    proto = small()
    tensor = proto.graph.initializer[0]
    tensor.dims[:] = dims
    if not mapped:
        data = np.frombuffer(tensor.raw_data, np.float32)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(data)
        words = [w.replace("12000 bytes", "3000 numbers") for w in words]
    refuse(save(tmp_path / "m.onnx", proto), "initializer w", *words)


def test_unknown_element_type(tmp_path: Path) -> None:
    proto = small()
    proto.graph.initializer[0].data_type = 99
    refuse(save(tmp_path / "m.onnx", proto), "initializer w", "element type 99")


def write_external(folder: Path, **entries: object) -> Path:
    proto = small()
    external(proto.graph.initializer[0], **entries)
    return save(folder / "m.onnx", proto)


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"12345678" + WEIGHTS.tobytes())
    _, facts = load(write_external(tmp_path, location="sub/w.bin", offset=8, length=12000))
    np.testing.assert_array_equal(facts.constants["w"], WEIGHTS)
    (tmp_path / "link.bin").symlink_to("sub/w.bin")  # a link that stays inside is none of our business
    _, facts = load(write_external(tmp_path, location="link.bin", offset=8))
    np.testing.assert_array_equal(facts.constants["w"], WEIGHTS)


def test_external_data_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "x").write_bytes(WEIGHTS.tobytes())
    (home / "link").symlink_to(tmp_path / "x")
    (home / "folder").symlink_to(tmp_path)
    for location in ("../x", str(tmp_path / "x"), "link", "folder/x", "a/../../x", "../home/../x"):
        refuse(write_external(home, location=location), "tensor w", "leaves the model's folder")


def test_external_data_missing_or_cut(tmp_path: Path) -> None:
    refuse(write_external(tmp_path, location="w.bin"), "'w.bin'", "missing")
    refuse(write_external(tmp_path, location="."), "tensor w")
    refuse(write_external(tmp_path), "without a location")
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    refuse(write_external(tmp_path, location="w.bin", offset=4), "4..12004", "12000", "cut")
    refuse(write_external(tmp_path, location="w.bin", offset=2**62), "12000", "cut")
    refuse(write_external(tmp_path, location="w.bin", offset=-4), "offset")
    refuse(write_external(tmp_path, location="w.bin", length=8000), "length 8000", "12000")


def test_external_data_of_a_constant_node(tmp_path: Path) -> None:
    constant = node("Constant", "", "w", value=onnx.numpy_helper.from_array(WEIGHTS, "w"))
    external(constant.attribute[0].t, location="w.bin")
    path = save(tmp_path / "m.onnx", model([constant, *ADD], {"x": (3000,)}))
    refuse(path, "'w.bin'", "missing")
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    _, facts = load(path)
    np.testing.assert_array_equal(facts.constants["w"], WEIGHTS)


# ---- weights stay on disk --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64", "bool", "uint16"])
def test_mapped_weights_are_the_weights(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(1).integers(0, 2, 5001).astype(dtype)
    proto = model(
        [node("Identity", "w", "y")],
        {},
        constants={"w": data},
        types={"y": helper.np_dtype_to_tensor_dtype(data.dtype)},
    )
    _, facts = load(save(tmp_path / "m.onnx", proto))
    np.testing.assert_array_equal(facts.constants["y"], data)


def test_strip_takes_out_the_weights_and_nothing_else() -> None:
    proto = small()
    whole = proto.SerializeToString()
    skeleton = strip(memoryview(whole))
    offset, length = skeleton.raw["w"]
    assert whole[offset : offset + length] == WEIGHTS.tobytes()
    assert len(skeleton.proto_bytes()) < 1000
    proto.graph.initializer[0].ClearField("raw_data")
    assert onnx.ModelProto.FromString(skeleton.proto_bytes()) == proto


def sparse_inline(path: Path, size: int) -> Path:
    """A model whose one inline weight is a hole in the file of `size` bytes."""
    proto = model([node("Add", "x w", "y")], {"x": (size // 4,)})
    proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[size // 4])
    tensor = proto.graph.initializer.pop().SerializeToString() + _varint(9 << 3 | 2) + _varint(size)
    graph = proto.graph.SerializeToString() + _varint(5 << 3 | 2) + _varint(len(tensor) + size) + tensor
    proto.ClearField("graph")
    head = proto.SerializeToString() + _varint(7 << 3 | 2) + _varint(len(graph) + size) + graph
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    return path


def sparse_external(path: Path, size: int) -> Path:
    """A model with four weights of together `size` bytes in a file that is one hole."""
    nodes, proto = [], None
    for i in range(4):
        nodes.append(node("Add", f"{'x' if not i else f'a{i}'} w{i}", f"a{i + 1}" if i < 3 else "y"))
    proto = model(nodes, {"x": (size // 16,)})
    for i in range(4):
        tensor = proto.graph.initializer.add(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[size // 16])
        external(tensor, location="weights.bin", offset=i * size // 4, length=size // 4)
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(size)
    return save(path, proto)


@pytest.mark.parametrize("make", [sparse_inline, sparse_external])
def test_reading_a_large_model_takes_little_memory(tmp_path: Path, make: Callable[[Path, int], Path]) -> None:
    """1.6 GB of weights, read in a process that may grow by 400 MB over what its imports take."""
    size = 1600 << 20
    path = make(tmp_path / "m.onnx", size)
    script = f"""
import resource, sys
from pathlib import Path
from compiler.frontend import load
from compiler.ops.registry import load_all
load_all()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model, facts = load(Path({str(path)!r}))
assert not facts.problems, facts.problems
assert sum(facts.constants.tensor(n).nbytes for n in facts.constants) == {size}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) << 10 < 100 << 20  # a copy of even one weight would be 400 MB
