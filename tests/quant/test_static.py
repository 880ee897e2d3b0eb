"""Static quantization of small networks: near the float32 answers, and integers all the way in ONNX Runtime."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant.contract import Options
from quant.graph import Graph
from quant.model import open_session, session_options
from quant.quantize import Quantized, quantize
from tests.quant.networks import constant, convolutions, images, model, node, run

RNG = np.random.default_rng(3)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        name: RNG.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:], dtype=int)))
        for name, shape in shapes.items()
    }


def static(proto: onnx.ModelProto, samples: list, scheme: str = "int8", **options: object) -> Quantized:
    result = quantize(proto, None, scheme, samples, Options(**{"observer": "minmax", **options}))  # type: ignore[arg-type]
    onnx.checker.check_model(result.model, full_check=True)
    return result


def kernels(proto: onnx.ModelProto) -> Counter[str]:
    """The operators that ONNX Runtime runs in the end."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.optimized_model_filepath = str(Path(folder, "o.onnx"))
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def nearness(proto: onnx.ModelProto, result: Quantized, samples: list) -> float:
    """SQNR in dB of the quantized model's answers."""
    real, got = run(proto, samples), run(result.model, samples)
    return float(10 * np.log10((real**2).sum() / ((got - real) ** 2).sum()))


# name -> (model, operators that ONNX Runtime must end with, and no other)
NETWORKS = {
    "residual": (
        model(
            [
                node("Conv", ["x", "w1"], "a", pads=[1] * 4),
                node("Relu", ["a"], "b"),
                node("Conv", ["b", "w2"], "c", pads=[1] * 4),
                node("Add", ["c", "b"], "d"),
                node("Relu", ["d"], "e"),
                node("GlobalAveragePool", ["e"], "f"),
                node("Flatten", ["f"], "g"),
                node("Gemm", ["g", "w3", "b3"], "y", alpha=0.5, beta=2.0),
            ],
            weights(w1=(8, 3, 3, 3), w2=(8, 8, 3, 3), w3=(8, 5), b3=(5,)),
            (1, 3, 8, 8),
        ),
        {"QLinearConv": 2, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    ),
    "branches": (
        model(
            [
                node("Conv", ["x", "w1"], "a"),
                node("Conv", ["x", "w2"], "b"),
                node("Concat", ["a", "b"], "c", axis=1),
                node("MaxPool", ["c"], "d", kernel_shape=[2, 2], strides=[2, 2]),
                node("Transpose", ["d"], "e", perm=[0, 2, 3, 1]),
                node("Reshape", ["e", "s"], "f"),
                node("MatMul", ["f", "w3"], "y"),
            ],
            {**weights(w1=(4, 3, 1, 1), w2=(4, 3, 1, 1), w3=(8, 5))},
            (1, 3, 8, 8),
        ),
        {"QLinearConv": 2, "QLinearConcat": 1, "MaxPool": 1, "Reshape": 1, "MatMulIntegerToFloat": 1},
    ),
}
NETWORKS["branches"][0].graph.initializer.append(onnx.numpy_helper.from_array(np.array([16, 8]), "s"))


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_from_end_to_end(name: str) -> None:
    proto, wanted = NETWORKS[name]
    samples = images(8)
    result = static(proto, samples)
    assert nearness(proto, result, samples) > 30  # 8 bits have 6 dB each, less what adds up
    found = kernels(result.model)
    found["MaxPool"] += found.pop("NhwcMaxPool", 0)
    found -= Counter()  # drops what is zero
    assert {op: count for op, count in found.items() if op not in ("QuantizeLinear", "Transpose")} == wanted
    assert found["QuantizeLinear"] == 1  # the input
    assert all(layer.scheme == "int8" for layer in result.layers)
    fused, plain = open_session(result.model), run(result.model, samples)
    for feeds, expected in zip(samples, plain, strict=True):  # float32 rounds elsewhere: a tie may go the other way
        assert np.allclose(fused.run(None, feeds)[0], expected, atol=0.02 * np.abs(plain).max())


def test_int16_keeps_more() -> None:
    samples = images(8)
    for proto, _ in NETWORKS.values():
        assert nearness(proto, static(proto, samples, "int16x8"), samples) > nearness(
            proto, static(proto, samples), samples
        )


def test_moved_values_share_one_scale_and_clamps_are_folded() -> None:
    graph = Graph(static(NETWORKS["branches"][0], images(4)).model)
    scales = {name: graph.producer[f"{name}_dq"].input[1] for name in "abcdef"}
    assert len(set(scales.values())) == 1
    result = static(convolutions(), images(4))
    graph = Graph(result.model)
    assert not {"Relu", "Clip"} & {node.op_type for node in graph.nodes}
    for name in ("r1", "r2"):  # the lowest code is zero
        assert constant(result.model, graph.producer[f"{name}_dq"].input[2]) == 0
    assert {"Relu", "Clip"} <= {node.op_type for node in static(convolutions(), images(4), "int16x8").model.graph.node}


def test_bias_has_the_scale_of_the_sums() -> None:
    result = static(convolutions(), images(4), bias_correction=False)
    graph = Graph(result.model)
    conv = next(node for node in graph.nodes if node.op_type == "Conv" and len(node.input) == 3)
    x, w, b = (graph.producer[name] for name in conv.input)
    product = np.float32(constant(result.model, x.input[1])) * constant(result.model, w.input[1])
    assert np.array_equal(constant(result.model, b.input[1]), product)
    assert constant(result.model, b.input[0]).dtype == np.int32


def test_kept_nodes_stay_float() -> None:
    proto, samples = convolutions(), images(4)
    kept = frozenset({"conv_c2"})
    result = static(proto, samples, keep=kept)
    assert next(layer for layer in result.layers if layer.node == "conv_c2").reason == "kept in float32 as asked"
    graph = Graph(result.model)
    assert next(node for node in graph.nodes if node.name == "conv_c2").input[1] == "w2"
    none = static(proto, samples, only=frozenset())
    assert not {"QuantizeLinear"} & {node.op_type for node in none.model.graph.node}
    assert np.array_equal(run(none.model, samples), run(none.float_model, samples))


def test_layers_that_cannot_be_integers_say_why() -> None:
    proto = model(
        [
            node("ConvTranspose", ["x", "w1"], "a"),
            node("Sigmoid", ["a"], "b"),
            node("Conv", ["b", "w2"], "c"),
            node("Conv", ["c", "k"], "y"),
        ],
        weights(w1=(3, 4, 2, 2), w2=(4, 4, 1, 1)),
        (1, 3, 8, 8),
    )
    proto.graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, (2, 4, 1, 1)))
    samples = [{**sample, "k": RNG.standard_normal((2, 4, 1, 1)).astype(np.float32)} for sample in images(4)]
    result = static(proto, samples)
    assert [(layer.op, layer.scheme, layer.reason) for layer in result.layers] == [
        ("ConvTranspose", None, "no integer kernel for transposed convolution"),
        ("Conv", "int8", ""),
        ("Conv", None, "weights are not constant"),
    ]
    assert nearness(proto, result, samples) > 30


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_dead_channels_and_constant_values(scheme: str) -> None:
    """Weights of zero, weights of next to nothing under a bias, and a value that is always the same."""
    arrays = weights(w1=(6, 3, 1, 1), b1=(6,), w2=(4, 6, 1, 1))
    arrays["w1"][1] = 0
    arrays["w1"][2] = 1e-20
    arrays["w1"][3] = 1e-9
    arrays["b1"][1:4] = [0.5, -0.75, 2.0]
    arrays["b1"][4] = 0
    arrays["w2"][3] = 0
    nodes = [node("Conv", ["x", "w1", "b1"], "a"), node("Conv", ["a", "w2"], "b"), node("Conv", ["b", "w3", "b3"], "y")]
    arrays |= {"w3": np.zeros((2, 4, 1, 1)), "b3": np.array([3.0, 0.0])}
    proto = model(nodes, arrays, (1, 3, 8, 8))
    for samples in (images(3), [{"x": np.zeros((1, 3, 8, 8), np.float32)}]):
        result = static(proto, samples, scheme)
        got = run(result.model, samples)
        assert np.allclose(got[:, :, 0], 3, rtol=1 / 127) and not got[:, :, 1].any()
        inner = onnx.ModelProto()
        inner.CopyFrom(proto)
        inner.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None))
        del inner.graph.node[2:]
        assert nearness(inner, static(inner, samples, scheme), samples) > 30


def test_weights_used_twice_and_values_that_are_outputs() -> None:
    proto = model(
        [node("Conv", ["x", "w"], "a"), node("Relu", ["a"], "y"), node("Conv", ["y", "w"], "z")],
        weights(w=(3, 3, 1, 1)),
        (1, 3, 8, 8),
    )
    proto.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    samples = images(4)
    result = static(proto, samples)
    assert [value.name for value in result.model.graph.output] == ["y", "z"]
    real, got = open_session(proto), open_session(result.model)
    for feeds in samples:
        for a, b in zip(real.run(None, feeds), got.run(None, feeds), strict=True):
            assert np.abs(a - b).max() < 0.03 * np.abs(a).max()


def test_attention_products_are_integers() -> None:
    arrays = weights(wq=(16, 16), wk=(16, 16), wv=(16, 16), bq=(16,))
    proto = model(
        [
            node("MatMul", ["x", "wq"], "q0"),
            node("Add", ["q0", "bq"], "q"),
            node("MatMul", ["x", "wk"], "k"),
            node("MatMul", ["x", "wv"], "v"),
            node("Transpose", ["k"], "kt", perm=[0, 2, 1]),
            node("MatMul", ["q", "kt"], "s"),
            node("Softmax", ["s"], "p"),
            node("MatMul", ["p", "v"], "y"),
        ],
        arrays,
        (1, 6, 16),
    )
    samples = images(8, shape=(1, 6, 16))
    result = static(proto, samples)
    assert len(result.layers) == 5 and all(layer.scheme for layer in result.layers)
    assert nearness(proto, result, samples) > 25
    found = kernels(result.model)
    assert found["MatMulIntegerToFloat"] + found["QLinearMatMul"] + found["QGemm"] == 5
