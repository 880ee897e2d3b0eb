"""Write a quantized (QDQ) ONNX convolutional network as a TFLite flatbuffer, so that LiteRT runs the same integers.

Activations uint8 with zero point z become int8 with zero point z - 128, which is the same number; weights (int8 per
output channel) and biases (int32) are copied. Images lie channels-last, as TFLite has them, so the written model takes
its image as (batch, height, width, channels). Format: TFLite's schema, version 3, and its quantization specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from targets.errors import UnsupportedModel

CODES = schema.BuiltinOperator
ALIGNMENT = 16  # of constants in the file, as the schema asks


@dataclass(frozen=True)
class Quantization:
    """Scales and zero points as a Q or DQ node has them, moved to int8 where the type is uint8; axis of the scales."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int = 0


class Buffer(schema.BufferT):
    """A constant's bytes, aligned: the generated packer aligns bytes to one byte."""

    def Pack(self, builder: Any) -> int:
        """Write the bytes, then the table that points at them."""
        if self.data is None:
            return super().Pack(builder)
        raw = self.data.tobytes()
        builder.StartVector(1, len(raw), ALIGNMENT)
        builder.head = builder.head - len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class Writer:
    """The flatbuffer as it grows, and what stands in it for each value of the ONNX model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # number 0 is empty by convention
        self.operators: list[Any] = []
        self.codes: list[tuple[int, int]] = []  # operator and version
        self.places: dict[str, int] = {}  # the tensor that has the value of this name
        self.quantized: dict[int, Quantization] = {}

    def tensor(
        self, name: str, shape: list[int], dtype: str, found: Quantization | None = None, data: Any = None
    ) -> int:
        """Add a tensor and give its number; `data` makes it a constant."""
        made = schema.TensorT(shape=list(shape), type=getattr(schema.TensorType, dtype), name=name)
        if found is not None:
            made.quantization = schema.QuantizationParametersT(
                scale=found.scale.tolist(), zeroPoint=found.zero.tolist(), quantizedDimension=found.axis
            )
            self.quantized[len(self.tensors)] = found
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(Buffer(data=np.ascontiguousarray(data)))
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(self, code: str, inputs: list[int], outputs: list[int], options: Any = None, version: int = 1) -> None:
        """Add an operator; `options` is its options' object of the schema."""
        number = getattr(CODES, code)
        if (number, version) not in self.codes:
            self.codes.append((number, version))
        made = schema.OperatorT(opcodeIndex=self.codes.index((number, version)), inputs=inputs, outputs=outputs)
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(made)

    def channels_last(self, name: str) -> list[int]:
        """The shape of an ONNX value as it lies in the flatbuffer. Raises UnsupportedModel where it is not known."""
        shape = self.shapes.get(name)
        if not shape or not all(shape):
            raise UnsupportedModel(f"the shape of {name!r} is not known")
        return [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else shape

    def quantization(self, node: onnx.NodeProto) -> Quantization:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear node."""
        scale = np.atleast_1d(self.constants[node.input[1]]).astype(np.float32)
        zero = np.zeros(scale.shape, np.int64)
        if len(node.input) > 2:
            stored = np.atleast_1d(self.constants[node.input[2]])
            zero = stored.astype(np.int64) - (128 if stored.dtype == np.uint8 else 0)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        return Quantization(scale, zero, axis if scale.size > 1 else 0)

    def constant(self, name: str) -> tuple[np.ndarray, Quantization | None]:
        """Stored integers and their scales of a constant behind a DQ node, or a constant as it is."""
        node = self.producer.get(name)
        if node is not None and node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
            return self.constants[node.input[0]], self.quantization(node)
        if name in self.constants:
            return self.constants[name], None
        raise UnsupportedModel(f"{name!r} is no constant")

    def place(self, name: str) -> int:
        """The int8 tensor that has the value of this name. Raises UnsupportedModel for a float value."""
        if name not in self.places:
            raise UnsupportedModel(f"{name!r} is not quantized")
        return self.places[name]

    def flatbuffer(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The whole file."""
        import flatbuffers

        graph = schema.SubGraphT(self.tensors, inputs, outputs, self.operators, "main")
        codes = [schema.OperatorCodeT(min(code, 127), None, version, code) for code, version in self.codes]
        model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers)
        model.description = "edgert benchmarks"
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def write(model: str | Path, out: str | Path) -> None:
    """Write the QDQ model at `model`, of static shapes, as a TFLite file.

    Raises UnsupportedModel, which names the operator, for what is not a quantized convolutional network.
    """
    from benchmarks.tflite_ops import convert

    Path(out).write_bytes(convert(Writer(onnx.load(model))))
