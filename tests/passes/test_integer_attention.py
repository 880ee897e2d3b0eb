"""Attention between quantized values: one integer kernel, and ONNX Runtime's answers but for ties."""

import numpy as np
import onnxruntime
import pytest

import edgert

Q = " {0}q = QuantizeLinear({1}, {2}s, {2}z) {0} = DequantizeLinear({0}q, {2}s, {2}z)"
STEP = np.float32(0.0213)  # no round multiple of the others: sums would lie in the middle between codes
SIGNATURE = (
    "(float[2, {S}, 24] x, float[2, {T}, 24] y, float[2, {T}, 24] v, float[2, 1, 1, {T}] m) -> (float[2, {S}, 24] r)"
)


def body(scores: str = "f = Div(s, root) a = Add(f, m)", between: str = "", last: str = "") -> str:
    """The operators; `scores`: from s to a; `between`: from a's softmax p to pw; `last`: what takes the result c."""
    turned = "xt = Transpose <perm = [0, 2, 1, 3]> (xr) yt = Transpose <perm = [0, 2, 3, 1]> (yr)"
    return (
        Q.format("xd", "x", "q") + Q.format("yd", "y", "k") + Q.format("vd", "v", "v")
        + " xr = Reshape(xd, split) yr = Reshape(yd, split) vr = Reshape(vd, split) "
        + turned + " vt = Transpose <perm = [0, 2, 1, 3]> (vr) s = MatMul(xt, yt) "
        + scores + " p = Softmax <axis = -1> (a)" + (between or Q.format("pw", "p", "p"))
        + " c = MatMul(pw, vt)" + (last or Q.format("cd", "c", "c"))
        + " t = Transpose <perm = [0, 2, 1, 3]> (cd) r = Reshape(t, join)"
    )  # fmt: skip


def constants(kind: str = "uint8", **changed: object) -> dict:
    low = np.iinfo(kind).min
    given = {"split": np.array([0, 0, 3, 8]), "join": np.array([0, 0, 24]), "root": float(8**0.5)}
    scales = {"q": (0.05, 119), "k": (0.06, 121), "v": (0.0487, 126), "c": (float(STEP), 120), "p": (0.003917, 0)}
    for name, (scale, zero) in scales.items():
        given |= {f"{name}s": np.float32(scale), f"{name}z": np.array(zero + low, kind)}
    return given | changed


def compare(g, dims: dict[str, int], least: float = 0.99) -> None:
    """One step apart at most, and that seldom: where a probability or a sum lies in the middle between two codes."""
    rng = np.random.default_rng(3)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(g.path, options, providers=["CPUExecutionProvider"])
    feeds = {}
    for port in session.get_inputs():
        shape = [d if isinstance(d, int) else dims[d] for d in port.shape]
        feeds[port.name] = (rng.standard_normal(shape) * 2).astype(np.float32)
    if "m" in feeds:
        feeds["m"] = np.where(feeds["m"] > 2, np.float32(-10000), np.float32(0))
    (want,) = session.run(None, feeds)
    edgert.compile(g.path, g.folder / "model.edge", dims=g.dims, golden=False)
    got = edgert.load(g.folder / "model.edge").run(feeds)["r"]
    np.testing.assert_allclose(got, want, rtol=0, atol=float(STEP) * 1.001)
    assert np.isclose(got, want, rtol=0, atol=float(STEP) * 0.01).mean() >= least


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_from_bytes_to_bytes(graph, kind):
    g = graph(SIGNATURE.format(S=7, T=9), body(), **constants(kind))
    left = g.compiled()
    assert "edgert.IntegerAttention" in left
    assert not {"edgert.MatMul", "Softmax", "Transpose"} & set(left)
    attrs = g.node("IntegerAttention")
    assert (attrs["layout"], attrs["num_heads"], attrs["levels"]) == ("BSHD", 3, 255)
    compare(g, {})


@pytest.mark.parametrize("length", [1, 16, 70])
def test_lengths_known_at_run_time(graph, length):
    g = graph(SIGNATURE.format(S="S", T="T"), body(), dims={"S": (1, 80), "T": (1, 80)}, **constants())
    assert "edgert.IntegerAttention" in g.compiled()
    compare(g, {"S": length, "T": 50})


def test_no_mask_and_no_factor(graph):
    g = graph(SIGNATURE.format(S=5, T=20).replace(", float[2, 1, 1, 20] m", ""), body("a = Identity(s)"), **{
        name: value for name, value in constants().items() if name != "root"
    })  # fmt: skip
    assert "edgert.IntegerAttention" in g.compiled()
    compare(g, {})


def test_result_that_nothing_quantizes(graph):
    given = {name: value for name, value in constants().items() if name not in ("cs", "cz")}
    g = graph(SIGNATURE.format(S=5, T=20), body(last=" cd = Tanh(c)"), **given)
    left = g.compiled()
    assert "edgert.IntegerAttention" in left and "edgert.Rescale" in left
    g.same_as_reference(atol=float(0.003917 * 0.0487 * 127), rtol=0)  # a tie among the probabilities


def test_float_probabilities_are_no_integer_attention(graph):
    given = {name: value for name, value in constants().items() if name not in ("ps", "pz")}
    g = graph(SIGNATURE.format(S=5, T=20), body(between=" pw = Identity(p)"), **given)
    left = g.compiled()
    assert "edgert.IntegerAttention" not in left and "edgert.Attention" in left
    compare(g, {})


GELU = "a = Div(x, root) b = Erf(a) e = Add(b, one) d = Mul(x, e) f = Mul(d, half)"


@pytest.mark.parametrize(("step", "cheap"), [(0.05, True), (1e-4, False)])
def test_gelu_ahead_of_a_coarse_quantization(graph, step, cheap):
    given = {"root": 2**0.5, "one": 1.0, "half": 0.5, "fs": np.float32(step), "fz": np.array(4, np.uint8)}
    g = graph("(float[3, 33] x) -> (float[3, 33] r)", GELU + Q.format("r", "f", "f"), **given)
    assert ("edgert.GeluForBytes" in g.compiled()) is cheap
    g.same_as_reference(atol=step * 1.001, rtol=0)
