"""Rows rounded to bytes as the model runs: one operator for the chain, and the answers ONNX Runtime gives."""

import numpy as np
import pytest

from compiler.passes import row_codes
from targets import get_target

RNG = np.random.default_rng(5)
W = RNG.integers(-127, 128, (40, 7)).astype(np.int8)
CONSTANTS = {"last": np.array([-1]), "n": np.float32(127), "tiny": np.float32(1e-30)}
CHAIN = """a = Abs(x) m = ReduceMax <keepdims = 1> (a, last) d = Div(m, n) s = Max(d, tiny)
    q = QuantizeLinear <axis = -1, block_size = 40, output_dtype = 3> (x, s) """
PRODUCT = "i = MatMulInteger(q, w) f = Cast <to = 1> (i) y = Mul(f, s)"


@pytest.mark.parametrize("name", ["x86-64-avx2", "x86-64-avx512vnni"])
def test_the_chain_is_one_operator(graph, name):
    g = graph("(float[2, 5, 40] x) -> (float[2, 5, 7] y)", CHAIN + PRODUCT, opset=21, w=W, **CONSTANTS)
    edit = g.edit()
    assert row_codes.run(edit, get_target(name))
    (node,) = edit.nodes("RowCodes", domain="edgert")
    # bytes with a sign where the target multiplies them so
    assert edit.dtype(node.outputs[0]) == ("int8" if name == "x86-64-avx2" else "uint8")


@pytest.mark.parametrize("rows", ["2, 5", "n0, 5"])
def test_answers_are_those_of_the_chain(graph, rows):
    dims = {"n0": (1, 6)} if "n0" in rows else None
    g = graph(f"(float[{rows}, 40] x) -> (float[{rows}, 7] y)", CHAIN + PRODUCT, opset=21, dims=dims, w=W, **CONSTANTS)
    left = g.compiled()
    assert "edgert.RowCodes" in left and "edgert.GemmInteger" in left
    assert not {"Abs", "ReduceMax", "QuantizeLinear"} & set(left)
    shape = [6 if d == "n0" else int(d) for d in rows.split(", ")]
    x = (RNG.standard_normal((*shape, 40)) * RNG.choice([1e-3, 1, 1e4], (*shape, 1))).astype(np.float32)
    x[0, 0] = 0  # its scale is the least one
    x[0, 1] = np.arange(-20, 20) + np.float32(0.5)
    x[0, 1, 0] = 127  # a scale of 1: every code is a tie
    g.same_as_reference(feeds={"x": x}, rtol=1e-6, atol=0)


def test_codes_that_somebody_else_reads_stay(graph):
    g = graph("(float[3, 40] x) -> (float[3, 7] y, int8[3, 40] q)", CHAIN + PRODUCT, opset=21, w=W, **CONSTANTS)
    assert not row_codes.run(g.edit(), get_target("x86-64-avx512vnni"))


@pytest.mark.parametrize("change", [("n", np.float32(120)), ("tiny", np.float32(1e-3))])
def test_other_ranges_stay(graph, change):
    name, value = change
    g = graph("(float[40, 40] x) -> (float[40, 7] y)", CHAIN + PRODUCT, opset=21, w=W, **CONSTANTS | {name: value})
    assert not row_codes.run(g.edit(), get_target("host"))
