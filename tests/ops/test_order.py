"""ArgMax, ArgMin, Hardmax and TopK: ties, NaN, signed zeros, all element types, k known at run time."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgert

from .reference import answers, model_of

RNG = np.random.default_rng(5)
TYPES = ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "uint64"]


def data(dtype: str, *shape: int) -> np.ndarray:
    """Few distinct values, so that ties are plenty; of floats also NaN, infinities and both zeros."""
    if np.dtype(dtype).kind == "f":
        values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0, 6e-5], dtype)
    else:
        info = np.iinfo(dtype)
        values = np.array([info.min, info.max, 0, 1, 5, info.max - 1], dtype)
    return RNG.choice(values, shape)


def one(folder: Path, op: str, x: np.ndarray, opset: int = 13, **attrs: object) -> np.ndarray:
    return answers(model_of(op, [x], 1, [], opset, **attrs), {"i0": x}, folder)["o0"]


@pytest.mark.parametrize(("dtype", "axis"), list(zip(TYPES, [0, 1, 2, 0, 1, 2, 0, 2], strict=True)))
def test_arg(dtype: str, axis: int, tmp_path: Path) -> None:
    """numpy too takes the first NaN, and the first of equal elements."""
    x = data(dtype, 4, 19, 6)
    np.testing.assert_array_equal(one(tmp_path, "ArgMax", x, axis=axis, keepdims=0), np.argmax(x, axis))
    np.testing.assert_array_equal(one(tmp_path, "ArgMin", x, axis=axis), np.argmin(x, axis, keepdims=True))


def test_arg_last(tmp_path: Path) -> None:
    x = data("int32", 3, 40)
    wanted = 39 - np.argmax(x[:, ::-1], 1, keepdims=True)
    np.testing.assert_array_equal(one(tmp_path, "ArgMax", x, axis=-1, select_last_index=1), wanted)


def test_hardmax_before_opset_13_flattens(tmp_path: Path) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    wanted = np.zeros((2, 12), np.float32)
    wanted[np.arange(2), np.argmax(x.reshape(2, 12), 1)] = 1
    np.testing.assert_array_equal(one(tmp_path, "Hardmax", x, opset=11), wanted.reshape(x.shape))


def best(x: np.ndarray, k: int, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """TopK in numpy: a stable sort, NaN above everything."""
    key = np.moveaxis(x, axis, -1)
    order = np.empty(key.shape, np.int64)
    for row in np.ndindex(key.shape[:-1]):
        v = [(1, 0) if a != a else (0, a) for a in key[row].tolist()]
        rank = {value: n for n, value in enumerate(sorted(set(v)))}
        order[row] = sorted(range(len(v)), key=lambda i: -rank[v[i]] if largest else rank[v[i]])
    place = np.moveaxis(order[..., :k], -1, axis)
    return np.take_along_axis(x, place, axis), place


FORMS = [(1, 5, 1), (0, 4, 0), (2, 1, 1), (-1, 7, 0)]


@pytest.mark.parametrize(("dtype", "form"), list(zip(TYPES, [*FORMS, *FORMS], strict=True)))
def test_top_k(dtype: str, form: tuple[int, int, int], tmp_path: Path) -> None:
    axis, k, largest = form
    x = data(dtype, 4, 23, 7)
    model = model_of("TopK", [x, np.array([k])], 2, [1], 11, axis=axis, largest=largest)
    got = answers(model, {"i0": x}, tmp_path)
    values, places = best(x, k, axis, bool(largest))
    np.testing.assert_array_equal(got["o1"], places)
    np.testing.assert_array_equal(got["o0"], values)


def test_top_k_many(tmp_path: Path) -> None:
    """Deep heaps: distinct numbers, k up to all of them."""
    x = RNG.permutation(3000).astype(np.float32).reshape(2, 1500)
    for k in (1, 100, 1500):
        got = answers(model_of("TopK", [x, np.array([k])], 2, [1], 11), {"i0": x}, tmp_path)
        np.testing.assert_array_equal(got["o0"], -np.sort(-x, 1)[:, :k])
        np.testing.assert_array_equal(got["o1"], np.argsort(-x, 1)[:, :k])


@pytest.mark.parametrize("output", [0, 1])
def test_top_k_one_output(output: int, tmp_path: Path) -> None:
    x = RNG.standard_normal((3, 9)).astype(np.float32)
    model = model_of("TopK", [x, np.array([4])], 2, [1], 11)
    del model.graph.output[1 - output]
    got = answers(model, {"i0": x}, tmp_path)
    np.testing.assert_array_equal(got[f"o{output}"], best(x, 4, 1, True)[output])


def test_top_k_of_run_time_k(tmp_path: Path) -> None:
    """One artifact, several k; k beyond the axis is cut to it, so that nothing is read out of bounds."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1)]
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6, 3)),
        helper.make_tensor_value_info("k", TensorProto.INT64, (1,)),
    ]
    made = [helper.make_tensor_value_info(n, t, None) for n, t in (("v", TensorProto.FLOAT), ("i", TensorProto.INT64))]
    model = helper.make_model(
        helper.make_graph(nodes, "late", given, made), opset_imports=[helper.make_opsetid("", 11)], ir_version=10
    )
    onnx.save(model, tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    x = RNG.standard_normal((2, 6, 3)).astype(np.float32)
    with edgert.load(tmp_path / "m.edge", threads=1) as loaded:
        for k in (2, 6, 0, 1, 9):
            got = loaded.run({"x": x, "k": np.array([k])})
            values, places = best(x, min(k, 6), 1, True)
            np.testing.assert_array_equal(got["v"], values)
            np.testing.assert_array_equal(got["i"], places)
