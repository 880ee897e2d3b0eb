"""From an ONNX file to answers, through every phase, on graphs that are awkward for a planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import edgert
from tests.compiler.small import build, reference, same, save

rng = np.random.default_rng(7)


def array(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attrs: object):
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


def test_fused_tail_with_residual(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Add", "c x", "s"), node("Relu", "s", "y")],
        {"x": [1, 8, 9, 7]}, {"y": [1, 8, 9, 7]}, {"w": array(8, 8, 3, 3), "b": array(8)},
    )  # fmt: skip
    feeds = {"x": array(1, 8, 9, 7)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=72)
    convs = [s for s in model.manifest["steps"] if "conv" in s["kernel"]]
    assert len(convs) == 1 and len(convs[0]["nodes"]) >= 3, "bias, residual and activation ride on the convolution"


def test_value_that_is_output_and_read_inside(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Relu", "x", "y"), node("Add", "y x", "z")],
        {"x": [3, 5]},
        {"y": [3, 5], "z": [3, 5]},
    )
    feeds = {"x": array(3, 5)}
    same(build(path).run(feeds), reference(path, feeds))


def test_input_and_constant_handed_out_as_outputs(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [node("Identity", "x", "y"), node("Identity", "c", "z"), node("Identity", "x", "t")],
        {"x": [2, 3]}, {"y": [2, 3], "z": [4], "t": [2, 3]}, {"c": array(4)},
    )  # fmt: skip
    feeds = {"x": array(2, 3)}
    same(build(path).run(feeds), reference(path, feeds))


def test_view_of_a_view_as_output(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [node("Relu", "x", "r"), node("Reshape", "r s1", "v"), node("Reshape", "v s2", "y"), node("Mul", "v v", "z")],
        {"x": [4, 6]}, {"y": [2, 12], "z": [24]}, {"s1": np.array([24]), "s2": np.array([2, 12])},
    )  # fmt: skip
    feeds = {"x": array(4, 6)}
    same(build(path).run(feeds), reference(path, feeds))


def test_symbolic_dimension_takes_every_size_in_its_bounds(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [node("Relu", "x", "r"), node("Add", "r c", "y")],
        {"x": ["n", 5]}, {"y": ["n", 5]}, {"c": array(5)},
    )  # fmt: skip
    model = build(path, dims={"n": (1, 40)})
    for n in (1, 2, 17, 40):
        feeds = {"x": array(n, 5)}
        same(model.run(feeds), reference(path, feeds))
    with pytest.raises(edgert.UsageError, match="n"):
        model.run({"x": array(41, 5)})


def test_output_dimension_that_follows_from_an_inputs(tmp_path: Path) -> None:
    nodes = [node("Concat", "x x", "y", axis=0), node("Concat", "x y", "z", axis=0)]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3]}, {"y": ["twice", 3], "z": ["thrice", 3]})
    model = build(path, dims={"n": (1, 9)})
    for n in (1, 4, 9):
        feeds = {"x": array(n, 3)}
        same(model.run(feeds), reference(path, feeds))


def test_arena_of_the_manifest_is_what_the_plan_needs(tmp_path: Path) -> None:
    layers, last = [], "x"
    for i in range(6):
        layers += [node("Softmax", last, f"s{i}", axis=0)]
        last = f"s{i}"
    path = save(tmp_path / "m.onnx", [*layers, node("Neg", last, "y")], {"x": [64, 64]}, {"y": [64, 64]})
    manifest = build(path).manifest
    ends = [b["offset"] + b["size"] for b in manifest["plan"]]
    assert manifest["arena_bytes"] == -(-max(ends) // 64) * 64
    for i, a in enumerate(manifest["plan"]):
        for b in manifest["plan"][i + 1 :]:
            live = a["first"] <= b["last"] and b["first"] <= a["last"]
            apart = a["offset"] + a["size"] <= b["offset"] or b["offset"] + b["size"] <= a["offset"]
            assert apart or not live, f"{a['name']} and {b['name']} overlap"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Conv", "x w", "c"), node("Sigmoid", "c", "y")],
                {"x": [1, 3, 8, 8]}, {"y": None}, {"w": array(4, 3, 3, 3)})  # fmt: skip
    edgert.compile(path, tmp_path / "a.edge")
    edgert.compile(path, tmp_path / "b.edge")
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_code_imports_nothing(tmp_path: Path) -> None:
    """Freestanding: exp, tanh and memcpy are inside."""
    from compiler.pipeline import compile_model
    from targets import get_target

    path = save(
        tmp_path / "m.onnx",
        [node("Tanh", "x", "a"), node("Exp", "a", "b"), node("Sin", "b", "y")],
        {"x": [9]},
        {"y": [9]},
    )
    code = compile_model(path, get_target()).code
    (tmp_path / "code").write_bytes(code)
    assert undefined_symbols(code) == []


def undefined_symbols(elf: bytes) -> list[str]:
    """Names in a 64-bit little-endian ELF's dynamic symbol table that no section of it defines."""
    import struct

    (section_at,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, section_at + i * size) for i in range(count)]
    names = []
    for _, kind, _, _, offset, length, link, _, _, _ in sections:
        if kind == 11:  # SHT_DYNSYM
            strings = sections[link][4]
            for at in range(offset + 24, offset + length, 24):
                name, _, _, section, _, _ = struct.unpack_from("<IBBHQQ", elf, at)
                if section == 0:
                    names.append(elf[strings + name : elf.index(b"\0", strings + name)].decode())
    return names


def test_answers_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("MatMul", "x w", "a"), node("Softmax", "a", "y")],
                {"x": [300, 64]}, {"y": [300, 130]}, {"w": array(64, 130)})  # fmt: skip
    edgert.compile(path, tmp_path / "m.edge")
    feeds = {"x": array(300, 64)}
    results = [edgert.load(tmp_path / "m.edge", threads=n).run(feeds)["y"] for n in (1, 2, 3)]
    assert all(np.array_equal(results[0], r) for r in results[1:])
    same({"y": results[0]}, reference(path, feeds), terms=64)


def test_debug_dump_has_a_file_for_every_phase(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Relu", "x", "y")], {"x": [3]}, {"y": [3]})
    edgert.compile(path, tmp_path / "m.edge", debug_dump=tmp_path / "dump")
    names = {p.name for p in (tmp_path / "dump").iterdir()}
    assert {"1-frontend.txt", "4-plan.txt"} <= names and any(n.endswith(".tir") for n in names)


def test_no_rate_is_told_where_a_dimension_is_open(tmp_path: Path) -> None:
    from edgert.interface.bench import bench
    from edgert.interface.run import run

    weights = {"w": array(16, 8)}
    path = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"x": ["n", 16]}, {"y": ["n", 8]}, weights)
    for dims, macs in (({"n": (1, 64)}, 0), ({"n": (4, 4)}, 4 * 16 * 8)):
        edgert.compile(path, tmp_path / "m.edge", dims=dims)
        assert bench(str(tmp_path / "m.edge"), seconds=0.01).macs == macs
        np.save(tmp_path / "x.npy", array(4, 16))
        result = run(str(tmp_path / "m.edge"), [("x", str(tmp_path / "x.npy"))], profile=True)
        assert sum(step["macs"] for step in result.profile or []) == macs
