"""Orders, shared memory and places change no answer, and save the memory that they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import compiler.pipeline
import edgert
from edgert.runner import Model
from tests.compiler.small import build, reference, same, save

rng = np.random.default_rng(11)


def array(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attrs: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


def arena(model: Model) -> int:
    return int(model.manifest["arena_bytes"])


def kernels(model: Model) -> list[str]:
    return [step["kernel"] for step in model.manifest["steps"]]


def test_a_residual_lies_over_what_it_is_added_to(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "a", pads=[1] * 4), node("Conv", "a w", "b", pads=[1] * 4), node("Add", "a b", "c"),
             node("Relu", "c", "d"), node("Conv", "d w", "y", pads=[1] * 4)]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 16, 20, 20]}, {"y": [1, 16, 20, 20]}, {"w": array(16, 16, 3, 3)})
    feeds = {"x": array(1, 16, 20, 20)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=3 * 144)
    # x and a in the compiler's own layout, a and its sum in one place, and the result before it is turned back
    assert arena(model) == 2 * 16 * 20 * 20 * 4


def test_a_value_that_is_read_again_stays(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Softmax", "a", "s"), node("Add", "a s", "b"), node("Softmax", "b", "t"),
             node("Mul", "a t", "y")]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, {"x": [8, 32]}, {"y": [8, 32]}, {"w": array(32, 32)})
    feeds = {"x": array(8, 32)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=32)
    assert arena(model) >= 2 * 8 * 32 * 4  # a has to stay beside what is made of it


def test_a_concatenation_written_by_its_producers(tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "a"), node("Softmax", "z", "b"), node("Concat", "a b", "c", axis=1),
             node("Softmax", "c", "y")]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 4, 16], "z": [1, 6, 16]}, {"y": [1, 10, 16]})
    feeds = {"x": array(1, 4, 16), "z": array(1, 6, 16)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=16)
    assert not any("concat" in kernel for kernel in kernels(model))
    assert arena(model) == 10 * 16 * 4


def test_a_concatenation_in_the_callers_memory(tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "a"), node("Softmax", "z", "b"), node("Concat", "a b", "y", axis=0)]
    path = save(tmp_path / "m.onnx", nodes, {"x": [4, 16], "z": [6, 16]}, {"y": [10, 16]})
    feeds = {"x": array(4, 16), "z": array(6, 16)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=16)
    assert arena(model) == 0


@pytest.mark.parametrize("axis", [1, 2])
def test_concatenations_that_have_to_copy(tmp_path: Path, axis: int) -> None:
    """Along an inner axis, of a graph's input, of one value twice, and of parts that begin within a line."""
    nodes = [node("Softmax", "x", "a"), node("Concat", "a x", "b", axis=axis), node("Concat", "a a", "c", axis=1),
             node("Concat", "s c", "d", axis=1), node("Softmax", "k", "s"), node("Softmax", "b", "y"),
             node("Softmax", "d", "z")]  # fmt: skip
    path = save(
        tmp_path / "m.onnx", [*nodes[:3], nodes[4], nodes[3], *nodes[5:]], {"x": [2, 3, 5], "k": [2, 1, 5]},
        {"y": [2, 6, 5] if axis == 1 else [2, 3, 10], "z": [2, 7, 5]},
    )  # fmt: skip
    feeds = {"x": array(2, 3, 5), "k": array(2, 1, 5)}
    same(build(path).run(feeds), reference(path, feeds), terms=16)


def test_slices_are_looked_at_where_they_lie(tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "a"), node("Split", "a parts", "q k v", axis=1), node("Softmax", "q", "s"),
             node("Slice", "a first last axis", "t"), node("Softmax", "t", "u"),
             node("Softmax", "v", "w"), node("Softmax", "k", "l")]  # fmt: skip
    numbers = {"parts": [2, 4, 2], "first": [-6], "last": [7], "axis": [1]}
    path = save(
        tmp_path / "m.onnx", nodes, {"x": [1, 8, 16]},
        {"s": [1, 2, 16], "u": [1, 5, 16], "w": [1, 2, 16], "l": [1, 4, 16]},
        {name: np.array(value, np.int64) for name, value in numbers.items()},
    )  # fmt: skip
    feeds = {"x": array(1, 8, 16)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=16)
    assert arena(model) == 8 * 16 * 4 and not any("slice" in k or "split" in k for k in kernels(model))


def test_overlapping_slices_of_one_value(tmp_path: Path) -> None:
    """A sum over one of them would change the other."""
    nodes = [node("Softmax", "x", "a"), node("Slice", "a zero seven axis", "p"), node("Slice", "a one eight axis", "q"),
             node("Softmax", "p", "r", axis=1), node("Add", "p q", "s"), node("Mul", "s r", "t"),
             node("Softmax", "t", "y", axis=1)]  # fmt: skip
    numbers = {"zero": [0], "seven": [7], "one": [1], "eight": [8], "axis": [1]}
    path = save(
        tmp_path / "m.onnx", nodes, {"x": [1, 8, 16]}, {"y": [1, 7, 16]},
        {name: np.array(value, np.int64) for name, value in numbers.items()},
    )  # fmt: skip
    feeds = {"x": array(1, 8, 16)}
    same(build(path).run(feeds), reference(path, feeds), terms=16)


def test_branches_are_run_one_after_the_other(tmp_path: Path) -> None:
    """Given breadth first, where all wide values would live at once."""
    nodes = [node("MatMul", f"x w{i}", f"a{i}") for i in range(4)]
    nodes += [node("MatMul", f"a{i} v{i}", f"b{i}") for i in range(4)]
    nodes += [node("Sum", "b0 b1 b2 b3", "y")]
    weights = {f"w{i}": array(16, 512) for i in range(4)} | {f"v{i}": array(512, 16) for i in range(4)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [4, 16]}, {"y": [4, 16]}, weights)
    feeds = {"x": array(4, 16)}
    model = build(path)
    same(model.run(feeds), reference(path, feeds), terms=512)
    assert arena(model) <= 4 * 512 * 4 + 4 * 4 * 16 * 4


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[onnx.NodeProto], dict[str, list[int]]]:
    """Nodes over values of [1, n, 16], and the shapes of those that nothing reads."""
    shapes = {"x": 4}
    nodes: list[onnx.NodeProto] = []
    for i in range(draw(st.integers(2, 9))):
        made = f"t{i}"
        source = draw(st.sampled_from(sorted(shapes)))
        alike = [name for name, rows in shapes.items() if rows == shapes[source]]
        kind = draw(st.sampled_from(["Add", "Mul", "Softmax", "Concat", "Slice", "Relu", "MatMul"]))
        if kind in ("Add", "Mul"):
            nodes.append(node(kind, f"{source} {draw(st.sampled_from(alike))}", made))
        elif kind == "Concat" and shapes[source] <= 8:
            other = draw(st.sampled_from(sorted(shapes)))
            nodes.append(node("Concat", f"{source} {other}", made, axis=1))
            shapes[made] = shapes[source] + shapes[other]
            continue
        elif kind == "Slice" and shapes[source] > 1:
            nodes.append(node("Slice", f"{source} one many axis", made))
            shapes[made] = shapes[source] - 1
            continue
        elif kind == "MatMul":
            nodes.append(node("MatMul", f"{source} w", made))
        else:
            nodes.append(node("Relu" if kind == "Relu" else "Softmax", source, made))
        shapes[made] = shapes[source]
    read = {name for n in nodes for name in n.input}
    return nodes, {name: [1, rows, 16] for name, rows in shapes.items() if name not in read and name != "x"}


def planned(folder: str, nodes: Sequence[onnx.NodeProto], outputs: dict[str, list[int]], feeds: dict) -> tuple:
    """Answers and bytes of the arena."""
    numbers = {"one": [1], "many": [99], "axis": [1]}
    constants = {name: np.array(value, np.int64) for name, value in numbers.items()}
    weights = np.random.default_rng(5).standard_normal((16, 16)).astype(np.float32)
    path = save(Path(folder) / "m.onnx", nodes, {"x": [1, 4, 16]}, outputs, {**constants, "w": weights})
    edgert.compile(path, Path(folder) / "m.edge", golden=False)
    with edgert.load(Path(folder) / "m.edge", threads=1) as model:
        return {name: value.copy() for name, value in model.run(feeds).items()}, arena(model)


@settings(max_examples=15, deadline=None)
@given(graph=graphs())
def test_answers_do_not_depend_on_the_plan(graph: tuple[list[onnx.NodeProto], dict[str, list[int]]]) -> None:
    nodes, outputs = graph
    feeds = {"x": array(1, 4, 16)}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        planned_answers, less = planned(folder, nodes, outputs, feeds)
        patch.setattr(compiler.pipeline, "arrange", lambda program: None)
        plain, more = planned(folder, nodes, outputs, feeds)
    assert planned_answers.keys() == plain.keys()
    assert all(np.array_equal(planned_answers[name], plain[name], equal_nan=True) for name in plain)
    assert less <= more
