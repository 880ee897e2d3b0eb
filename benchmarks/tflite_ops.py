"""The operators that can be written as TFLite's: each turns one quantized ONNX node into operators of a Writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import NodeProto, helper

from benchmarks.tflite_writer import Quantization, Writer
from targets.errors import UnsupportedModel

NONE, RELU, RELU6 = (getattr(schema.ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6"))
PER_CHANNEL = 12  # FULLY_CONNECTED's version from which weights have a scale for each output
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


def convert(writer: Writer) -> bytes:
    """The flatbuffer of the writer's model, its nodes walked in order."""
    inputs = [value for value in writer.graph.input if value.name not in writer.constants]
    outputs = [value.name for value in writer.graph.output]
    starts = [writer.tensor(value.name, writer.channels_last(value.name), "FLOAT32") for value in inputs]
    fed = {value.name: start for value, start in zip(inputs, starts, strict=True)}
    ends: list[int] = []
    done: set[str] = set()  # values that a node before has already made
    for node in writer.graph.node:
        if node.output[0] in done:
            continue
        if node.op_type == "QuantizeLinear":
            if node.input[0] not in fed:
                raise UnsupportedModel(f"{node.input[0]!r} is quantized, but nothing integer makes it")
            place = _quantized(writer, node, writer.channels_last(node.input[0]))
            writer.operator("QUANTIZE", [fed[node.input[0]]], [place], schema.QuantizeOptionsT())
        elif node.op_type == "DequantizeLinear":
            if node.input[0] in writer.constants:
                continue
            place = writer.places[node.output[0]] = writer.place(node.input[0])
            if node.output[0] in outputs:
                ends.append(writer.tensor(node.output[0], writer.channels_last(node.output[0]), "FLOAT32"))
                writer.operator("DEQUANTIZE", [place], [ends[-1]], schema.DequantizeOptionsT())
        elif node.op_type in OPERATORS:
            if node.op_type == "Gemm" and node.output[0] in outputs:
                ends.append(_gemm_to_float(writer, node))
                continue
            path, clamp = _to_quantize(writer, node)
            result = _quantized(writer, path[-1], writer.channels_last(node.output[0]))
            done.update(step.output[0] for step in path)
            OPERATORS[node.op_type](writer, node, result, clamp)
        else:
            raise UnsupportedModel(f"{node.op_type} has no TFLite form here")
    if len(ends) != len(outputs):
        raise UnsupportedModel("an output is not quantized")
    return writer.flatbuffer(starts, ends)


def _quantized(writer: Writer, node: NodeProto, shape: list[int]) -> int:
    """The tensor for what a QuantizeLinear node gives."""
    place = writer.tensor(node.output[0], shape, "INT8", writer.quantization(node))
    writer.places[node.output[0]] = place
    return place


def _to_quantize(writer: Writer, node: NodeProto) -> tuple[list[NodeProto], int]:
    """The nodes after `node` up to its QuantizeLinear, and the activation between, which TFLite has as a clamp."""
    path, clamp, value = [], NONE, node.output[0]
    while True:
        users = [user for user in writer.graph.node if value in user.input]
        if len(users) != 1 or users[0].op_type not in ("QuantizeLinear", "Relu", "Clip"):
            raise UnsupportedModel(f"{node.op_type} {node.name!r} gives a float value")
        path.append(users[0])
        value = users[0].output[0]
        if path[-1].op_type == "QuantizeLinear":
            return path, clamp
        if path[-1].op_type == "Relu":
            clamp = RELU
        elif [float(writer.constants[name]) for name in path[-1].input[1:]] == [0.0, 6.0]:
            clamp = RELU6
        else:
            raise UnsupportedModel(f"Clip {path[-1].name!r} is not from 0 to 6")


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _parameters(writer: Writer, node: NodeProto, axes: list[int], channel: int) -> list[int]:
    """Weights and bias as tensors, the weights' axes in the given order with the output channel at `channel`."""
    weights, found = writer.constant(node.input[1])
    if found is None or weights.dtype != np.int8 or found.zero.any():
        raise UnsupportedModel(f"{node.op_type} {node.name!r} has no symmetric int8 weights")
    weights = weights.transpose(axes)
    place = writer.tensor(
        node.input[1], list(weights.shape), "INT8", Quantization(found.scale, found.zero, channel), weights
    )
    scale = writer.quantized[writer.place(node.input[0])].scale * found.scale
    count = weights.shape[channel]
    bias = Quantization(scale, np.zeros(scale.shape, np.int64))
    if len(node.input) < 3:
        values = np.zeros(count, np.int32)
    else:
        stored, given = writer.constant(node.input[2])
        if given is not None and not np.allclose(given.scale, scale, rtol=1e-5):
            raise UnsupportedModel(f"{node.op_type} {node.name!r} has a bias of another scale")
        values = stored if given is not None else np.rint(stored / scale).astype(np.int32)
    return [place, writer.tensor(f"{node.name}.bias", [count], "INT32", bias, values.reshape(count))]


def _conv(writer: Writer, node: NodeProto, result: int, clamp: int) -> None:
    given = _attributes(node)
    place = writer.place(node.input[0])
    height, width, channels = writer.channels_last(node.input[0])[1:]
    weights = writer.constant(node.input[1])[0].shape
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    group, pads = given.get("group", 1), given.get("pads", [0, 0, 0, 0])
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or group not in (1, channels) or weights[1] != channels // group:
        raise UnsupportedModel(f"Conv {node.name!r}: padding by name or grouped")
    padding = VALID
    if pads == _same(height, width, weights[2:], strides, dilations):
        padding = SAME if any(pads) else VALID
    elif any(pads):
        place = _padded(writer, node, place, pads)
    common = dict(
        padding=padding, strideH=strides[0], strideW=strides[1], dilationHFactor=dilations[0],
        dilationWFactor=dilations[1], fusedActivationFunction=clamp,
    )  # fmt: skip
    if group == 1:
        parameters = _parameters(writer, node, [0, 2, 3, 1], 0)
        writer.operator("CONV_2D", [place, *parameters], [result], schema.Conv2DOptionsT(**common), 3)
    else:
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=weights[0] // group, **common)
        writer.operator("DEPTHWISE_CONV_2D", [place, *_parameters(writer, node, [1, 2, 3, 0], 3)], [result], options, 3)


def _same(height: int, width: int, kernel: Any, strides: list[int], dilations: list[int]) -> list[int]:
    """The padding that TFLite's SAME means, in ONNX's order: what is odd goes after."""
    totals = [
        max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
        for size, window, stride, dilation in zip((height, width), kernel, strides, dilations, strict=True)
    ]
    return [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]


def _padded(writer: Writer, node: NodeProto, place: int, pads: list[int]) -> int:
    """The tensor with the padding as an operator of its own (XNNPACK makes it part of the convolution again)."""
    table = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
    before = writer.channels_last(node.input[0])
    shape = [size + int(added) for size, added in zip(before, table.sum(1), strict=True)]
    amounts = writer.tensor(f"{node.name}.pads", [4, 2], "INT32", data=table)
    out = writer.tensor(f"{node.name}.padded", shape, "INT8", writer.quantized[place])
    writer.operator("PAD", [place, amounts], [out], schema.PadOptionsT(), 2)
    return out


def _gemm(writer: Writer, node: NodeProto, result: int, clamp: int) -> None:
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=clamp)
    inputs = [writer.place(node.input[0]), *_gemm_parameters(writer, node)]
    writer.operator("FULLY_CONNECTED", inputs, [result], options, PER_CHANNEL)


def _gemm_parameters(writer: Writer, node: NodeProto) -> list[int]:
    given = _attributes(node)
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        raise UnsupportedModel(f"Gemm {node.name!r} scales or transposes its input")
    return _parameters(writer, node, [0, 1] if given.get("transB", 0) else [1, 0], 0)


def _gemm_to_float(writer: Writer, node: NodeProto) -> int:
    """A last layer whose result is never rounded to codes, which TFLite does not have for int8 inputs.

    Its nearest form: the input as float32, which LiteRT makes bytes again, one scale for each row, and int8 weights.
    """
    weights, bias = _gemm_parameters(writer, node)
    found = writer.quantized[bias]
    values = writer.constant(node.input[2])[0] if len(node.input) > 2 else np.zeros(found.scale.size)
    floats = values if values.dtype == np.float32 else (values * found.scale).astype(np.float32)
    bias = writer.tensor(f"{node.name}.bias.float", [floats.size], "FLOAT32", data=floats.reshape(-1))
    widened = writer.tensor(f"{node.name}.input", writer.channels_last(node.input[0]), "FLOAT32")
    writer.operator("DEQUANTIZE", [writer.place(node.input[0])], [widened], schema.DequantizeOptionsT(), 2)
    result = writer.tensor(node.output[0], writer.channels_last(node.output[0]), "FLOAT32")
    options = schema.FullyConnectedOptionsT(asymmetricQuantizeInputs=True)
    writer.operator("FULLY_CONNECTED", [widened, weights, bias], [result], options, PER_CHANNEL)
    return result


def _add(writer: Writer, node: NodeProto, result: int, clamp: int) -> None:
    options = schema.AddOptionsT(fusedActivationFunction=clamp)
    writer.operator("ADD", [writer.place(name) for name in node.input], [result], options, 2)


def _mean(writer: Writer, node: NodeProto, result: int, clamp: int) -> None:
    axes = writer.tensor(f"{node.name}.axes", [2], "INT32", data=np.array([1, 2], np.int32))
    if clamp != NONE:
        raise UnsupportedModel(f"{node.op_type} {node.name!r} before an activation")
    writer.operator("MEAN", [writer.place(node.input[0]), axes], [result], schema.ReducerOptionsT(keepDims=True), 2)


def _flatten(writer: Writer, node: NodeProto, result: int, clamp: int) -> None:
    place, shape = writer.place(node.input[0]), writer.channels_last(node.output[0])
    before = writer.channels_last(node.input[0])
    if clamp != NONE or (len(before) == 4 and before[1:3] != [1, 1]):
        raise UnsupportedModel(f"{node.op_type} {node.name!r}: an image would be flattened in another order")
    wanted = writer.tensor(f"{node.name}.shape", [len(shape)], "INT32", data=np.array(shape, np.int32))
    writer.operator("RESHAPE", [place, wanted], [result], schema.ReshapeOptionsT(newShape=shape))


Convert = Callable[[Writer, NodeProto, int, int], None]
OPERATORS: dict[str, Convert] = {
    "Add": _add,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "Reshape": _flatten,
}
