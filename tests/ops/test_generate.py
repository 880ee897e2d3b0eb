"""Running sums, Einsum, Range, OneHot and EyeLike in forms that ONNX's own cases do not have."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgert
from edgert.errors import UnsupportedModel

from .reference import answers, check, model_of, normal

RNG = np.random.default_rng(9)


@pytest.mark.parametrize("late", [False, True], ids=["axis known", "axis at run time"])
@pytest.mark.parametrize(
    ("axis", "form"), [(0, {}), (1, {"exclusive": 1}), (-1, {"reverse": 1}), (-2, {"exclusive": 1, "reverse": 1})]
)
def test_cum_sum(axis: int, late: bool, form: dict, tmp_path: Path) -> None:
    inputs = [RNG.integers(-9, 9, (3, 5, 4)), np.array(axis)]
    check(tmp_path, "CumSum", inputs, constant=[] if late else [1], opset=14, **form)


def test_cum_sum_of_long_rows(tmp_path: Path) -> None:
    """More columns than a task takes; the same order of additions as numpy."""
    x = normal(4, 2500)
    got = answers(model_of("CumSum", [x, np.array(0)], 1, [1], 14), {"i0": x}, tmp_path)["o0"]
    np.testing.assert_array_equal(got, np.cumsum(x, 0))


def test_cum_sum_of_int32_wraps(tmp_path: Path) -> None:
    x = np.full(5, 2**30, np.int32)
    got = answers(model_of("CumSum", [x, np.array(0)], 1, [1], 14), {"i0": x}, tmp_path)["o0"]
    np.testing.assert_array_equal(got, np.cumsum(x, dtype=np.int32))


EQUATIONS = {
    "ij,jk->ik": [(3, 40), (40, 5)],
    "bhid,bhjd->bhij": [(2, 3, 4, 17), (2, 3, 5, 17)],
    "...ij,...jk": [(2, 1, 3, 4), (5, 4, 6)],
    "ii->i": [(5, 5)],
    "ii": [(5, 5)],
    "ij->ji": [(3, 4)],
    "iij,j->i": [(4, 4, 3), (3,)],
    "a,b,c->cab": [(2,), (3,), (4,)],
    "ab,bc,cd->ad": [(2, 3), (3, 4), (4, 5)],
    "b...d->...": [(2, 3, 4, 5)],
    "ij,ij->": [(6, 7), (6, 7)],
    " i j , j -> i ": [(3, 4), (4,)],
    "ba": [(3, 4)],
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str, tmp_path: Path) -> None:
    operands = [normal(*s, seed=k) for k, s in enumerate(EQUATIONS[equation])]
    model = model_of("Einsum", operands, 1, [], 12, equation=equation)
    got = answers(model, {f"i{k}": v for k, v in enumerate(operands)}, tmp_path)["o0"]
    wanted = np.einsum(equation.replace(" ", ""), *operands)
    assert got.shape == wanted.shape
    # sums of at most 42 products of order 1, added in another order
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("equation", ["ij,jk->iz", "ij->ii", "ijk,jk->i", "ij", "i1,i->i"])
def test_einsum_refused(equation: str, tmp_path: Path) -> None:
    operands = [normal(2, 3), normal(3, 2)]
    with pytest.raises(UnsupportedModel, match="equation"):
        _compile(equation, operands, tmp_path)


def _compile(equation: str, operands: list[np.ndarray], folder: Path) -> None:
    given = [helper.make_tensor_value_info(f"i{k}", TensorProto.FLOAT, v.shape) for k, v in enumerate(operands)]
    node = helper.make_node("Einsum", [v.name for v in given], ["y"], equation=equation)
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph([node], "g", given, out), opset_imports=[helper.make_opsetid("", 12)], ir_version=10
    )
    onnx.save(model, folder / "m.onnx")
    edgert.compile(folder / "m.onnx", folder / "m.edge", golden=False)


@pytest.mark.parametrize("limits", [(3, 11, 2), (11, 3, -3), (5, 5, 1), (7, 3, 1), (0.5, 2.0, 0.3), (1.0, -1.0, -0.7)])
def test_range_at_run_time(limits: tuple, tmp_path: Path) -> None:
    """start and delta given at run time; the length as the model declares it."""
    dtype = np.float32 if isinstance(limits[0], float) else np.int64
    inputs = [np.array(v, dtype) for v in limits]
    wanted = np.arange(*limits).astype(dtype)
    model = model_of("Range", inputs, 1, [], 11)
    model.graph.output[0].type.CopyFrom(
        helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), wanted.shape)
    )
    got = answers(model, {f"i{k}": v for k, v in enumerate(inputs)}, tmp_path)["o0"]
    assert got.dtype == dtype and got.shape == wanted.shape
    # computed in float64 by both, so at most the last bit of the product differs before rounding
    np.testing.assert_allclose(got, wanted, rtol=1e-7)


def positions(folder: Path, start: str, limit: str) -> Path:
    """A compiled Range over sums of the open lengths n and p of the inputs x and past."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sx"]), helper.make_node("Shape", ["past"], ["sp"]),
        helper.make_node("Gather", ["sx", "zero"], ["n"]), helper.make_node("Gather", ["sp", "zero"], ["p"]),
        helper.make_node("Add", ["n", "p"], ["n+p"]), helper.make_node("Sub", ["n", "p"], ["n-p"]),
        helper.make_node("Range", [start, limit, "one"], ["y"]),
    ]  # fmt: skip
    given = [helper.make_tensor_value_info(k, TensorProto.FLOAT, (d,)) for k, d in (("x", "n"), ("past", "p"))]
    made = [helper.make_tensor_value_info("y", TensorProto.INT64, None)]
    constants = [onnx.numpy_helper.from_array(np.array(v), k) for k, v in (("zero", 0), ("one", 1))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, made, constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=10,
    )
    onnx.save(model, folder / "m.onnx")
    edgert.compile(folder / "m.onnx", folder / "m.edge", dims={"n": (1, 9), "p": (1, 9)}, golden=False)
    return folder / "m.edge"


def test_range_over_symbolic_lengths(tmp_path: Path) -> None:
    """Positions of a sequence of open length, after a past of open length: what language models compute."""
    with edgert.load(positions(tmp_path, "p", "n+p"), threads=1) as loaded:
        for n, p in ((4, 3), (1, 1), (9, 9), (2, 7)):
            got = loaded.run({"x": np.zeros(n, np.float32), "past": np.zeros(p, np.float32)})
            np.testing.assert_array_equal(got["y"], np.arange(p, p + n))


def test_range_whose_length_falls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="Range"):
        positions(tmp_path, "zero", "n-p")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int, tmp_path: Path) -> None:
    indices = np.array([[0, 4, -1], [-5, 5, -6]])  # 5 and -6 are out of range: off
    check(tmp_path, "OneHot", [indices, np.array(5), np.array([2, 7], np.float32)], constant=[1], opset=11, axis=axis)


@pytest.mark.parametrize("k", [-4, -1, 0, 2, 9])
def test_eye_like(k: int, tmp_path: Path) -> None:
    check(tmp_path, "EyeLike", [normal(3, 5)], opset=9, k=k, dtype=TensorProto.INT32)
