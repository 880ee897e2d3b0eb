"""Writes a decoder as ONNX in standard operators (opset 23): the reference that everything else is compared with.

    input_ids, position_ids   int64 [1, seq]
    past_key.N, past_value.N  float32 [1, kv_heads, past, head_dim]
    logits                    float32 [1, seq, vocab]
    present_key.N, ...        float32 [1, kv_heads, past + seq, head_dim]

The past holds the positions from 0. The residual stream is [seq, width], so that every matrix is a Gemm on [out, in].
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from compiler.decoder.config import Decoder, Rope
from compiler.decoder.weight_file import BlockNames, WeightFile
from compiler.gguf import Tensor
from targets.errors import EdgertError

OPSET, IR_VERSION = 23, 11
Weights = Literal["float", "blocks"]


def to_onnx(
    decoder: Decoder,
    weights: Mapping[str, Tensor],
    path: str | Path,
    store: Weights = "float",
    layers: int | None = None,
    context: int | None = None,
) -> Path:
    """Write the graph to `path` and its weights to `path`.data beside it; returns `path`.

    `store` "float" decodes the weights to float32; "blocks" keeps their bits (DequantizeLinear in blocks, codes of 5
    and 6 bits as uint8). Only the first `layers` layers are written where given, positions below `context` (default:
    the decoder's). In memory at a time: a piece of a matrix, its scales, and a rotation's tables. Raises EdgertError
    where the disk fails.
    """
    path = Path(path)
    data = path.with_name(path.name + ".data")
    temporary = [p.with_name(f".{p.name}.{os.getpid()}.tmp") for p in (data, path)]
    try:
        with temporary[0].open("wb") as file:
            graph = _Graph(decoder, weights, WeightFile(file, data.name), store, context or decoder.context)
            model = graph.model(decoder.layers if layers is None else layers)
        temporary[1].write_bytes(model.SerializeToString())
        os.replace(temporary[0], data)
        os.replace(temporary[1], path)
    except OSError as error:
        raise EdgertError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        for leftover in temporary:
            leftover.unlink(missing_ok=True)
    return path


class _Graph:
    """Collects the nodes; a value is called like its node."""

    def __init__(
        self, decoder: Decoder, weights: Mapping[str, Tensor], file: WeightFile, store: Weights, context: int
    ) -> None:
        self.decoder, self.weights, self.file, self.store, self.context = decoder, weights, file, store, context
        self.nodes: list[NodeProto] = []
        self.made: dict[str, str] = {}
        self.blocked: dict[str, BlockNames] = {}
        self.tables: dict[Rope, tuple[str, str]] = {}
        self.masks: dict[int | None, str] = {}

    def op(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: float | list[int]) -> str:
        """A float as float32 scalar, integers as int64; made once."""
        if name not in self.made:
            self.made[name] = self.file.inline(
                name, np.array(value, np.float32 if isinstance(value, float) else np.int64)
            )
        return name

    def weight(self, name: str) -> str:
        """A weight as a float32 value of its shape; made once."""
        if name not in self.made:
            tensor = self.weights[name]
            blocks = self.store == "blocks" and tensor.quantized and len(tensor.shape) == 2
            self.made[name] = self.dequantized(name, tensor) if blocks else self.file.floats(name, tensor)
        return self.made[name]

    def dequantized(self, name: str, tensor: Tensor) -> str:
        b = self.blocked[name] = self.file.blocks(name, tensor)
        inputs = [b.codes, b.scale] + ([b.zero] if b.zero else [])
        last = name if b.zero else f"{name}.product"
        y = self.op("DequantizeLinear", inputs, last, axis=1, block_size=b.size)
        if not b.minimum:
            return y
        rows, width = tensor.shape
        y = self.op("Reshape", [y, self.constant(f"{name}.split", [rows, width // b.size, b.size])], f"{name}.blocks")
        y = self.op("Add", [y, b.minimum], f"{name}.shifted")
        return self.op("Reshape", [y, self.constant(f"{name}.shape", [rows, width])], name)

    def linear(self, x: str, name: str) -> str:
        """x [seq, in] -> [seq, out], with the bias where the model has it."""
        bias = [self.weight(f"{name}_bias")] if f"{name}_bias" in self.weights else []
        return self.op("Gemm", [x, self.weight(name), *bias], f"{name}.y", transB=1)

    def norm(self, x: str, name: str) -> str:
        """Over the last axis."""
        return self.op("RMSNormalization", [x, self.weight(name)], f"{name}.y", axis=-1, epsilon=self.decoder.norm_eps)

    def embed(self) -> str:
        ids = self.op("Squeeze", ["input_ids", self.constant("axis_0", [0])], "ids")
        x = self.op("Gather", [self.weight("embedding"), ids], "embedded", axis=0)
        if self.decoder.embedding_scale != 1.0:
            x = self.op("Mul", [x, self.constant("embedding_scale", self.decoder.embedding_scale)], "embedded.scaled")
        return x

    def heads(self, x: str, name: str, count: int, rope: Rope | None) -> str:
        """[seq, count * size] -> [1, count, seq, size], normed where the model does it, and turned."""
        shape = self.constant(f"heads.{count}", [1, -1, count, self.decoder.head_dim])
        y = self.op("Reshape", [x, shape], f"{name}.heads")
        if rope is not None and self.decoder.qk_norm:
            y = self.norm(y, f"{name}_norm")
        y = self.op("Transpose", [y], f"{name}.by_head", perm=[0, 2, 1, 3])
        if rope is None:
            return y
        if rope not in self.tables:
            parts = zip(("cos", "sin"), rope.tables(self.context), strict=True)
            cos, sin = (self.file.array(f"rope.{len(self.tables)}.{part}", table) for part, table in parts)
            self.tables[rope] = cos, sin
        partial = {} if rope.dims == self.decoder.head_dim else {"rotary_embedding_dim": rope.dims}
        inputs = [y, *self.tables[rope], "position_ids"]
        return self.op("RotaryEmbedding", inputs, f"{name}.turned", interleaved=int(rope.interleaved), **partial)

    def mask(self, window: int | None) -> str:
        """bool [seq, past + seq]: what a token sees. The past's positions count from 0."""
        if window in self.masks:
            return self.masks[window]
        if not self.masks:
            shape = self.op("Shape", ["past_key.0"], "past.shape", start=2, end=3)
            past = self.op("Squeeze", [shape, self.constant("axis_0", [0])], "past")
            before = self.op("Range", [self.constant("zero", 0), past, self.constant("one", 1)], "past.positions")
            now = self.op("Squeeze", ["position_ids", "axis_0"], "positions")
            keys = self.op("Concat", [before, now], "keys", axis=0)
            self.op("Unsqueeze", [keys, "axis_0"], "keys.row")
            self.op("Unsqueeze", [now, self.constant("axis_1", [1])], "queries.column")
            self.op("LessOrEqual", ["keys.row", "queries.column"], "mask.causal")
        self.masks[None] = "mask.causal"
        if window is not None:
            first = self.op("Sub", ["queries.column", self.constant(f"window.{window}", window)], f"first.{window}")
            near = self.op("Greater", ["keys.row", first], f"near.{window}")
            self.masks[window] = self.op("And", ["mask.causal", near], f"mask.{window}")
        return self.masks[window]

    def attention(self, x: str, index: int) -> str:
        """[seq, width] both ways."""
        decoder, name = self.decoder, f"layers.{index}"
        rope = decoder.ropes[index]
        q = self.heads(self.linear(x, f"{name}.q"), f"{name}.q", decoder.heads, rope)
        k = self.heads(self.linear(x, f"{name}.k"), f"{name}.k", decoder.kv_heads, rope)
        v = self.heads(self.linear(x, f"{name}.v"), f"{name}.v", decoder.kv_heads, None)
        past = [f"past_key.{index}", f"past_value.{index}"]
        outputs = [f"{name}.attention", f"present_key.{index}", f"present_value.{index}"]
        inputs = [q, k, v, self.mask(decoder.windows[index]), *past]
        self.nodes.append(
            helper.make_node("Attention", inputs, outputs, name=outputs[0], scale=decoder.attention_scale)
        )
        y = self.op("Transpose", [outputs[0]], f"{name}.by_token", perm=[0, 2, 1, 3])
        y = self.op("Reshape", [y, self.constant("joined", [-1, decoder.heads * decoder.head_dim])], f"{name}.joined")
        return self.linear(y, f"{name}.o")

    def feed_forward(self, x: str, name: str) -> str:
        """[seq, width] both ways."""
        gate, up = self.linear(x, f"{name}.gate"), self.linear(x, f"{name}.up")
        if self.decoder.activation == "silu":
            active = self.op("Mul", [gate, self.op("Sigmoid", [gate], f"{name}.sigmoid")], f"{name}.active")
        else:
            active = self.op("Gelu", [gate], f"{name}.active", approximate="tanh")
        return self.linear(self.op("Mul", [active, up], f"{name}.gated"), f"{name}.down")

    def layer(self, x: str, index: int) -> str:
        name = f"layers.{index}"
        y = self.attention(self.norm(x, f"{name}.attn_norm"), index)
        y = self.norm(y, f"{name}.post_attn_norm") if self.decoder.post_norms else y
        x = self.op("Add", [x, y], f"{name}.after_attention")
        y = self.feed_forward(self.norm(x, f"{name}.ffn_norm"), name)
        y = self.norm(y, f"{name}.post_ffn_norm") if self.decoder.post_norms else y
        return self.op("Add", [x, y], name)

    def logits(self, x: str) -> None:
        """[seq, width] -> `logits` [1, seq, vocab]."""
        x = self.norm(x, "final_norm")
        y = self.op("Gemm", [x, self.weight("embedding" if self.decoder.tied else "head")], "head.y", transB=1)
        if self.decoder.final_softcap:
            cap = self.constant("softcap", self.decoder.final_softcap)
            y = self.op("Tanh", [self.op("Div", [y, cap], "softcap.ratio")], "softcap.tanh")
            y = self.op("Mul", [y, cap], "softcap.y")
        self.op("Unsqueeze", [y, self.constant("axis_0", [0])], "logits")

    def model(self, layers: int) -> onnx.ModelProto:
        x = self.embed()
        for index in range(layers):
            x = self.layer(x, index)
        self.logits(x)
        info, floats = helper.make_tensor_value_info, TensorProto.FLOAT
        cache: list[str | int] = [1, self.decoder.kv_heads, "past", self.decoder.head_dim]
        after = [*cache[:2], "past + seq", cache[3]]
        kinds = [(kind, n) for n in range(layers) for kind in ("key", "value")]
        inputs = [info(name, TensorProto.INT64, [1, "seq"]) for name in ("input_ids", "position_ids")]
        inputs += [info(f"past_{kind}.{n}", floats, cache) for kind, n in kinds]
        outputs = [info("logits", floats, [1, "seq", self.decoder.vocab])]
        outputs += [info(f"present_{kind}.{n}", floats, after) for kind, n in kinds]
        graph = helper.make_graph(self.nodes, self.decoder.architecture, inputs, outputs, self.file.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgert")
