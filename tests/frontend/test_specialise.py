"""--shape and --dim: what they fix, what they keep symbolic, and what they refuse."""

import pytest

from compiler.frontend import load, read_model, specialise
from compiler.frontend.report import report
from edgert.errors import UsageError

from .models import model, node

INPUTS = {"x": ("N", 3, "h", "w"), "z": ("N", "seq")}
NODES = [node("Relu", "x", "y"), node("Abs", "z", "q")]


def run(shapes: dict | None = None, dims: dict | None = None, inputs: dict | None = None, **more: object) -> tuple:
    """The input shapes and the bounds after specialising."""
    import onnx_ir as ir

    made = ir.from_proto(model(NODES, inputs or INPUTS, "y q"))
    bounds = specialise(read_model(made) if more.pop("copy", False) else made, shapes or {}, dims or {}, **more)
    return {v.name: tuple(d if isinstance(d, int) else str(d) for d in v.shape) for v in made.graph.inputs}, bounds


def test_a_shape_fixes_its_dims_everywhere() -> None:
    shapes, bounds = run({"x": (2, 3, 8, 9)}, {"seq": (1, 4)})
    assert shapes == {"x": (2, 3, 8, 9), "z": (2, "seq")}
    assert bounds == {"seq": (1, 4)}
    assert not bounds.notes


def test_equal_bounds_fix_a_dim() -> None:
    shapes, bounds = run({}, {"seq": (7, 7), "h": (4, 4), "w": (1, 100)})
    assert shapes == {"x": (1, 3, 4, "w"), "z": (1, 7)}
    assert bounds == {"w": (1, 100)}
    assert len(bounds.notes) == 1
    assert "N" in bounds.notes[0]
    assert "1" in bounds.notes[0]


@pytest.mark.parametrize("name", ["batch", "batch_size", "N", "B", None])
def test_a_leading_batch_is_one(name: str | None) -> None:
    shapes, bounds = run(inputs={"x": (name, 3), "z": (4, 5)})
    assert shapes["x"] == (1, 3)
    assert bounds.notes


def test_unnamed_dims_get_names_of_their_own() -> None:
    inputs = {"x": (None, 3, None, None), "z": (1, 2)}
    shapes, bounds = run({}, {"x_2": (1, 8), "x_3": (5, 5)}, inputs)
    assert shapes["x"] == (1, 3, "x_2", 5)
    assert bounds == {"x_2": (1, 8)}


@pytest.mark.parametrize(
    ("shapes", "dims", "words"),
    [
        ({"a": (1,)}, {}, ["--shape a", "no such input", "x=Nx3xhxw", "z=Nxseq"]),
        ({"x": (1, 3, 8)}, {}, ["--shape x", "3 dimensions", "4", "x=Nx3xhxw"]),
        ({"x": (1, 4, 8, 8)}, {}, ["dimension 1 is 4", "fixes 3", "x=Nx3xhxw"]),
        ({"x": (1, 3, 8, 8), "z": (2, 4)}, {}, ["dimension 0 is 2", "N is 1"]),
        ({"x": (1, 3, 8, 0)}, {}, ["dimension 3 is 0"]),
        ({"x": (1, 3, 8, -1)}, {}, ["dimension 3 is -1"]),
        ({"x": (1, 3, 8, 2**40)}, {}, ["dimension 3 is"]),
        ({}, {"foo": (1, 2)}, ["--dim foo", "no such dimension", "N, h, seq, w", "z=Nxseq"]),
        ({}, {"seq": (5, 2)}, ["--dim seq=5..2"]),
        ({}, {"seq": (0, 2)}, ["--dim seq=0..2"]),
        ({"z": (1, 6)}, {"seq": (1, 9)}, ["--dim seq=1..9", "fixes it at 6"]),
        ({}, {"h": (1, 2)}, ["--dim seq=N", "--dim w=N", "x=Nx3xhxw"]),
    ],
)
def test_wrong_use(shapes: dict, dims: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        run(shapes, dims)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_inputs_without_a_rank_need_a_shape() -> None:
    import onnx
    import onnx_ir as ir

    proto = model([node("Relu", "x", "y")])
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="--shape x="):
        specialise(ir.from_proto(proto), {}, {})
    made = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    assert specialise(made, {"x": (2, 5)}, {}) == {}
    assert made.graph.inputs[0].shape.numpy() == (2, 5)


def test_open_dims_let_inspect_look_at_any_model() -> None:
    shapes, bounds = run(open_dims=(1, 64))
    assert bounds == {"h": (1, 64), "seq": (1, 64), "w": (1, 64)}
    assert shapes["x"] == (1, 3, "h", "w")
    assert len(bounds.notes) == 4


def test_one_variable_a_dimension() -> None:
    import onnx_ir as ir

    made, facts = load(ir.from_proto(model(NODES, INPUTS, "y q")), dims=dict.fromkeys(("h", "w", "seq", "N"), (1, 9)))
    assert facts.values["y"].shape[0].same_as(facts.values["q"].shape[0])
    assert facts.values["x"].shape[2].same_as(facts.vars["h"])
    assert set(facts.bounds) == {"N", "h", "w", "seq"}
    assert "y: float32 Nx3xhxw" in report(made, facts).text()
