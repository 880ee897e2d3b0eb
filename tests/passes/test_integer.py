"""QuantizeLinear and DequantizeLinear around float operators: integer kernels, and the same answers."""

import numpy as np
import onnxruntime
import pytest

import edgert
from compiler.passes import integer, quantized_moves, unsigned
from compiler.passes.quantization import step_of
from targets import get_target

RNG = np.random.default_rng(23)
STEP = np.float32(0.05)  # of the outputs below: a tie may fall the other way, which is one step


def q_weights(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(np.int8)


def constants(kind: str = "uint8", zero: int = 120, bias: int = 6) -> dict[str, np.ndarray]:
    scales = (RNG.random(6) * 0.004 + 0.001).astype(np.float32)
    return {
        "xs": np.float32(0.03), "xz": np.array(zero, kind), "w": q_weights(6, 4, 3, 3), "ws": scales,
        "wz": np.zeros(6, np.int8), "b": RNG.integers(-900, 900, bias).astype(np.int32),
        "bs": (np.float32(0.03) * scales).astype(np.float32), "ys": STEP, "yz": np.array(zero, kind),
    }  # fmt: skip


CONV = """xq = QuantizeLinear(x, xs, xz) xf = DequantizeLinear(xq, xs, xz)
    wf = DequantizeLinear <axis = 0> (w, ws, wz) bf = DequantizeLinear <axis = 0> (b, bs)
    c = Conv <pads = [1, 1, 1, 1]> (xf, wf, bf) """
END = " yq = QuantizeLinear(r, ys, yz) y = DequantizeLinear(yq, ys, yz)"
SIGNATURE = "(float[1, 4, 7, 9] x) -> (float[1, 6, 7, 9] y)"


@pytest.mark.parametrize(("kind", "zero"), [("uint8", 120), ("int8", -3), ("uint8", 0)])
@pytest.mark.parametrize("between", ["r = Identity(c)", "r = Relu(c)", "r = Clip(c, low, high)"])
def test_convolution_sums_in_integers(graph, kind, zero, between):
    given = constants(kind, zero)
    if "Clip" in between:
        given |= {"low": np.float32(0), "high": np.float32(2)}
    g = graph(SIGNATURE, CONV + between + END, **given)
    left = g.compiled()
    assert "edgert.Conv2dInteger" in left and "edgert.Requantize" in left
    assert not {"Conv", "edgert.Conv2d", "Relu", "Clip"} & set(left)
    g.same_as_reference(atol=float(STEP) * 1.001, rtol=0)


def test_a_float_bias_is_added_to_the_rescaled_sums(graph):
    given = constants() | {"f": RNG.standard_normal(6).astype(np.float32)}
    del given["b"], given["bs"]
    body = CONV.replace("bf = DequantizeLinear <axis = 0> (b, bs)", "").replace("bf)", "f)") + "r = Relu(c)" + END
    g = graph(SIGNATURE, body, **given)
    assert "edgert.Rescale" in g.compiled()
    g.same_as_reference(atol=float(STEP) * 1.001, rtol=0)


def test_sums_that_nothing_quantizes_become_floats(graph):
    given = constants()
    del given["ys"], given["yz"]
    g = graph(SIGNATURE, CONV + "y = Tanh(c)", **given)
    left = g.compiled()
    assert "edgert.Rescale" in left and "edgert.Requantize" not in left
    g.same_as_reference(rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "zero"), [("uint8", 128), ("uint8", 125)])
def test_unsigned_weights_are_moved_around_zero(graph, kind, zero):
    given = constants() | {"w": RNG.integers(10, 240, (6, 4, 3, 3)).astype(kind), "wz": np.full(6, zero, kind)}
    g = graph(SIGNATURE, CONV + "r = Identity(c)" + END, **given)
    assert "edgert.Conv2dInteger" in g.compiled()
    g.same_as_reference(atol=float(STEP) * 1.001, rtol=0)


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_wide_activations_are_two_products(graph, kind):
    """16-bit activations: the sums are exact, so the answers differ by roundings of float32 alone."""
    given = constants() | {
        "xs": np.float32(0.0002), "xz": np.array(300, kind), "ys": np.float32(0.0002), "yz": np.array(20, kind),
        "bs": np.float32(0.0002) * np.float32(0.002) * np.ones(6, np.float32),
    }  # fmt: skip
    g = graph(SIGNATURE, CONV + "r = Relu(c)" + END, opset=21, **given)
    assert g.compiled().count("edgert.Conv2dInteger") == 2
    g.same_as_reference(atol=0.000201, rtol=0)


@pytest.mark.parametrize("swapped", [0, 1])
def test_product_sums_in_integers(graph, swapped):
    w = q_weights(5, 12)
    given = {
        "xs": np.float32(0.02), "xz": np.array(99, np.uint8), "w": w if swapped else np.ascontiguousarray(w.T),
        "ws": (RNG.random(5) * 0.01 + 0.001).astype(np.float32), "ys": STEP, "yz": np.array(7, np.uint8),
    }  # fmt: skip
    body = f"""xq = QuantizeLinear(x, xs, xz) xf = DequantizeLinear(xq, xs, xz)
        wf = DequantizeLinear <axis = {0 if swapped else 1}> (w, ws)
        r = Gemm <transB = {swapped}> (xf, wf) yq = QuantizeLinear(r, ys, yz) y = DequantizeLinear(yq, ys, yz)"""
    g = graph("(float[3, 12] x) -> (float[3, 5] y)", body, **given)
    assert "edgert.GemmInteger" in g.compiled()
    g.same_as_reference(atol=float(STEP) * 1.001, rtol=0)


@pytest.mark.parametrize("pool", ["GlobalAveragePool(xf)", "AveragePool <kernel_shape = [2, 3]> (xf)"])
def test_average_pools_sum_integers(graph, pool):
    shape = [1, 4, 1, 1] if "Global" in pool else [1, 4, 5, 6]
    zeros = {"xz": np.array(120, np.uint8), "yz": np.array(90, np.uint8)}
    given = zeros | {"xs": np.float32(0.03), "ys": np.float32(0.01)}
    body = f"xq = QuantizeLinear(x, xs, xz) xf = DequantizeLinear(xq, xs, xz) r = {pool}" + END
    # a convolution puts the pool on NHWC, where the integer form is
    g = graph(f"(float[1, 4, 6, 8] x) -> (float{shape} y)", body, **given)
    assert "edgert.SumPool2d" in g.compiled()
    g.same_as_reference(atol=0.01001, rtol=0)


MOVES = {
    "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (xf)": [1, 4, 3, 4],
    "Transpose <perm = [0, 2, 3, 1]> (xf)": [1, 6, 8, 4],
    "Reshape(xf, shape)": [4, 48],
    "Slice(xf, one, three, one)": [1, 2, 6, 8],
    'Resize <mode = "nearest"> (xf, , scales)': [1, 4, 12, 16],
}


@pytest.mark.parametrize("move", MOVES)
def test_moves_work_on_integers_exactly(graph, move):
    shapes = {"shape": np.array([4, 48]), "one": np.array([1]), "three": np.array([3]),
              "scales": np.float32([1, 1, 2, 2])}  # fmt: skip
    given = {name: value for name, value in shapes.items() if name in move}
    given |= {"xs": np.float32(0.03), "xz": np.array(-5, np.int8)}
    body = f"""xq = QuantizeLinear(x, xs, xz) xf = DequantizeLinear(xq, xs, xz) r = {move}
        yq = QuantizeLinear(r, xs, xz) y = DequantizeLinear(yq, xs, xz)"""
    g = graph(f"(float[1, 4, 6, 8] x) -> (float{MOVES[move]} y)", body, **given)
    assert g.after(quantized_moves.run).count("QuantizeLinear") == 1
    g.same_as_reference(rtol=0, atol=0)


def test_a_concatenation_is_joined_as_integers_of_its_own_scale(graph):
    given = {"s1": np.float32(0.03), "s2": np.float32(0.05), "z": np.array(100, np.uint8)}
    body = """aq = QuantizeLinear(a, s1, z) af = DequantizeLinear(aq, s1, z)
        bq = QuantizeLinear(b, s2, z) bf = DequantizeLinear(bq, s2, z) r = Concat <axis = 1> (af, bf)
        yq = QuantizeLinear(r, s1, z) y = DequantizeLinear(yq, s1, z)"""
    g = graph("(float[1, 3, 4, 4] a, float[1, 2, 4, 4] b) -> (float[1, 5, 4, 4] y)", body, **given)
    g.after(quantized_moves.run)
    (concat,) = [n for n in g.edited.graph if n.op_type == "Concat"]
    assert all(g.edited.dtype(value) == "uint8" for value in concat.inputs)
    g.same_as_reference(rtol=0, atol=0)


def test_int8_values_that_anybody_sees_stay_int8(graph):
    """An output of the model keeps its type; and so does what a target with signed products reads."""
    given = {"xs": np.float32(0.03), "xz": np.array(-5, np.int8)}
    g = graph("(float[3, 5] x) -> (int8[3, 5] y)", "y = QuantizeLinear(x, xs, xz)", **given)
    edit = g.edit()
    assert not unsigned.run(edit, get_target("x86-64-avx512vnni"))
    inner = graph("(float[3, 5] x) -> (float[3, 5] y)", "q = QuantizeLinear(x, xs, xz) y = DequantizeLinear(q, xs, xz)",
                  **given)  # fmt: skip
    assert unsigned.run(inner.edit(), get_target("x86-64-avx512vnni"))
    assert not unsigned.run(inner.edit(), get_target("x86-64-avx2"))


def test_uint8_values_become_int8_where_products_are_of_signed_bytes(graph):
    given = {"xs": np.float32(0.03), "xz": np.array(5, np.uint8)}
    body = "q = QuantizeLinear(x, xs, xz) y = DequantizeLinear(q, xs, xz)"
    g = graph("(float[3, 5] x) -> (float[3, 5] y)", body, **given)
    assert not unsigned.run(g.edit(), get_target("cortex-x2"))
    edit = g.edit()
    assert unsigned.run(edit, get_target("cortex-a76"))
    assert edit.dtype(edit.graph.outputs[0].producer().inputs[0]) == "int8"
    seen = graph("(float[3, 5] x) -> (uint8[3, 5] y)", "y = QuantizeLinear(x, xs, xz)", **given)
    assert not unsigned.run(seen.edit(), get_target("cortex-a76"))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_dynamic_quantization_keeps_its_zero_point_out_of_the_sums(graph, kind):
    w = RNG.integers(0 if kind == "uint8" else -128, 256 if kind == "uint8" else 128, (12, 6)).astype(kind)
    given = {"w": w, "ws": np.float32(0.01), "wz": np.array(128 if kind == "uint8" else 0, kind)}
    body = """q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, wz) f = Cast <to = 1> (i)
        m = Mul(s, ws) y = Mul(f, m)"""
    g = graph("(float[2, 9, 12] x) -> (float[2, 9, 6] y)", body, **given)
    assert "edgert.GemmInteger" in g.compiled()
    g.same_as_reference(rtol=1e-6, atol=1e-6)


def test_dynamic_convolution(graph):
    given = {"w": q_weights(6, 4, 3, 3), "ws": np.float32(0.01)}
    body = """q, s, z = DynamicQuantizeLinear(x) i = ConvInteger <pads = [1, 1, 0, 1]> (q, w, z) f = Cast <to = 1> (i)
        m = Mul(s, ws) y = Mul(f, m)"""
    g = graph("(float[1, 4, 7, 9] x) -> (float[1, 6, 6, 9] y)", body, **given)
    assert "edgert.Conv2dInteger" in g.compiled()
    g.same_as_reference(rtol=1e-6, atol=1e-5)


def test_the_clamp_of_an_activation_is_quantized_as_its_values_are(graph):
    given = {"s": np.float32(0.1), "z": np.array(3, np.uint8)}
    g = graph("(float[4] x) -> (uint8[4] y)", "y = QuantizeLinear(x, s, z)", **given)
    edit = g.edit()
    to = integer.quantizer(edit, edit.nodes("QuantizeLinear")[0])
    assert to is not None
    assert [step_of(v, to) for v in (0.0, 6.0, 1e9, -1e9)] == [3, 63, 255, 0]


@pytest.mark.parametrize("between", ["r = Identity(s)", "r = Relu(s)"])
def test_a_sum_of_bytes_equals_onnxruntime_in_every_bit(graph, between):
    """All pairs of codes; ONNX Runtime joins them into its QLinearAdd."""
    codes = np.arange(256, dtype=np.float32)
    given = {
        "as": np.float32(0.0371), "az": np.array(131, np.uint8), "bs": np.float32(0.0193), "bz": np.array(7, np.uint8),
        "ys": np.float32(0.0433), "yz": np.array(0 if "Relu" in between else 99, np.uint8),
    }  # fmt: skip
    body = f"""aq = QuantizeLinear(a, as, az) af = DequantizeLinear(aq, as, az) bq = QuantizeLinear(b, bs, bz)
        bf = DequantizeLinear(bq, bs, bz) s = Add(af, bf) {between} y = QuantizeLinear(r, ys, yz)"""
    g = graph("(float[256, 1] a, float[1, 256] b) -> (uint8[256, 256] y)", body, **given)
    assert "edgert.AddQuantized" in g.compiled()
    feeds = {"a": ((codes - 131) * 0.0371)[:, None], "b": ((codes - 7) * 0.0193)[None]}
    feeds = {name: np.ascontiguousarray(value, np.float32) for name, value in feeds.items()}
    want = onnxruntime.InferenceSession(g.path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    edgert.compile(g.path, g.folder / "model.edge", golden=False)
    np.testing.assert_array_equal(edgert.load(g.folder / "model.edge").run(feeds)["y"], want)


@pytest.mark.parametrize("shape", ["1, 4, 20, 1", "1, 4, 20"])
def test_convolutions_along_one_axis_sum_in_integers(graph, shape):
    """They are seen as rows, as float ones are: tiles of neighbouring outputs then have neighbours."""
    kernel = (6, 4, 5, 1) if shape.endswith("1") else (6, 4, 5)
    given = constants() | {"w": q_weights(*kernel)}
    pads = "[2, 0, 2, 0]" if shape.endswith("1") else "[2, 2]"
    g = graph(
        f"(float[{shape}] x) -> (float[{shape.replace('4', '6')}] y)",
        CONV.replace("[1, 1, 1, 1]", pads) + "r = Relu(c)" + END, **given,
    )  # fmt: skip
    assert "edgert.Conv2dInteger" in g.compiled()
    (conv,) = g.edited.nodes("Conv2dInteger", domain="edgert")
    assert g.edited.shape(conv.inputs[0]) == (1, 1, 20, 4)
    g.same_as_reference(atol=float(STEP) * 1.001, rtol=0)
