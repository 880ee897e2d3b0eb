"""Stored tensors: checked before use, found in other files only inside the folder, mapped and not copied."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.frontend import load
from compiler.frontend.wire import _varint, strip

from .models import external, model, node, save
from .refuse import ADD, WEIGHTS, refuse, small


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
