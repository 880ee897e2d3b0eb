"""A small seeded llama in ONNX as optimum exports them: primitive operators, a mask made of shapes, keys and values
concatenated to what came before, with the tokenizer's files beside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgert.llm.tokenizer_gguf import tokenizer_from_gguf
from tests.llm.made import CHATML, byte_metadata

VOCAB = len(byte_metadata()["tokenizer.ggml.tokens"])
LAYERS, WIDTH, HEADS, GROUPS, HEAD, FFN = 2, 64, 4, 2, 16, 96
OPSET = 17
LOWEST = float(np.finfo(np.float32).min)


class _Export:
    def __init__(self, tied: bool) -> None:
        self.rng, self.tied = np.random.default_rng(5), tied
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = str(attributes.pop("name", f"{kind}_{len(self.nodes)}"))
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"/{name}", **attributes))  # type: ignore[arg-type]
        return name

    def const(self, value: object, dtype: type = np.int64) -> str:
        name = f"const_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.const(self.rng.normal(0, shape[0] ** -0.5, shape), np.float32)

    def size(self, x: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", x), self.const(axis))

    def row(self, x: str) -> str:
        return self.op("Unsqueeze", x, self.const([0]))

    def norm(self, x: str) -> str:
        mean = self.op("ReduceMean", self.op("Pow", x, self.const(2, np.float32)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.const(1e-5, np.float32)))
        gain = self.const(1 + 0.1 * self.rng.normal(size=WIDTH), np.float32)
        return self.op("Mul", gain, self.op("Div", x, root))

    def mask(self) -> str:
        past, seq = self.size("past_key_values.0.key", 2), self.size("input_ids", 1)
        total = self.op("Add", past, seq)
        zero, one = self.const(0), self.const(1)
        rows = self.op("Unsqueeze", self.op("Range", past, total, one), self.const([1]))
        later = self.op("Greater", self.row(self.op("Range", zero, total, one)), rows)
        low = self.const(LOWEST, np.float32)
        causal = self.op("Where", later, low, self.const(0, np.float32))
        padded = self.op("Equal", self.op("Unsqueeze", "attention_mask", self.const([1, 2])), zero)
        return self.op("Where", padded, low, self.op("Unsqueeze", causal, self.const([0, 1])))

    def rotation(self) -> tuple[str, str]:
        frequencies = 10000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
        at = self.op("Cast", self.op("Unsqueeze", "position_ids", self.const([1])), to=TensorProto.FLOAT)
        turned = self.op("MatMul", self.const(frequencies[None, :, None], np.float32), at)
        angles = self.op("Transpose", turned, perm=[0, 2, 1])
        both = self.op("Concat", angles, angles, axis=-1)
        return tuple(self.op("Unsqueeze", self.op(kind, both), self.const([1])) for kind in ("Cos", "Sin"))  # type: ignore[return-value]

    def heads(self, x: str, count: int) -> str:
        apart = self.op(
            "Reshape", self.op("MatMul", x, self.weight(WIDTH, count * HEAD)), self.const([1, -1, count, HEAD])
        )
        return self.op("Transpose", apart, perm=[0, 2, 1, 3])

    def turned(self, x: str, cos: str, sin: str) -> str:
        half, end, axis = self.const([HEAD // 2]), self.const([HEAD]), self.const([3])
        left, right = self.op("Slice", x, self.const([0]), half, axis), self.op("Slice", x, half, end, axis)
        swapped = self.op("Concat", self.op("Neg", right), left, axis=-1)
        return self.op("Add", self.op("Mul", x, cos), self.op("Mul", swapped, sin))

    def repeated(self, x: str) -> str:
        wide = self.op("Expand", self.op("Unsqueeze", x, self.const([2])), self.const([1, 1, HEADS // GROUPS, 1, 1]))
        return self.op("Reshape", wide, self.const([1, HEADS, -1, HEAD]))

    def layer(self, x: str, n: int, mask: str, rotation: tuple[str, str]) -> str:
        y = self.norm(x)
        q, k = (self.turned(self.heads(y, count), *rotation) for count in (HEADS, GROUPS))
        new = {"key": k, "value": self.heads(y, GROUPS)}
        k, v = (
            self.repeated(
                self.op("Concat", f"past_key_values.{n}.{kind}", new[kind], axis=2, name=f"present.{n}.{kind}")
            )
            for kind in ("key", "value")
        )
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.op("Add", self.op("Mul", scores, self.const(HEAD**-0.5, np.float32)), mask)
        y = self.op("Transpose", self.op("MatMul", self.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = self.op("Reshape", y, self.const([1, -1, HEADS * HEAD]))
        x = self.op("Add", x, self.op("MatMul", y, self.weight(HEADS * HEAD, WIDTH)))
        y = self.norm(x)
        gate, up = (self.op("MatMul", y, self.weight(WIDTH, FFN)) for _ in range(2))
        y = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return self.op("Add", x, self.op("MatMul", y, self.weight(FFN, WIDTH)))

    def model(self) -> onnx.ModelProto:
        embedding = self.const(self.rng.normal(size=(VOCAB, WIDTH)), np.float32)
        x = self.op("Gather", embedding, "input_ids")
        mask, rotation = self.mask(), self.rotation()
        for n in range(LAYERS):
            x = self.layer(x, n, mask, rotation)
        head = self.op("Transpose", embedding, perm=[1, 0]) if self.tied else self.weight(WIDTH, VOCAB)
        self.op("MatMul", self.norm(x), head, name="logits")
        info, ints, floats = helper.make_tensor_value_info, TensorProto.INT64, TensorProto.FLOAT
        seq, past, total = "sequence_length", "past_sequence_length", "past_sequence_length + sequence_length"
        names = [f"{n}.{kind}" for n in range(LAYERS) for kind in ("key", "value")]
        inputs = [info(name, ints, ["batch_size", dim]) for name, dim in
                  (("input_ids", seq), ("attention_mask", total), ("position_ids", seq))]  # fmt: skip
        inputs += [info(f"past_key_values.{name}", floats, ["batch_size", GROUPS, past, HEAD]) for name in names]
        outputs = [info("logits", floats, ["batch_size", seq, VOCAB])]
        outputs += [info(f"present.{name}", floats, ["batch_size", GROUPS, total, HEAD]) for name in names]
        graph = helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def export(folder: Path, tied: bool = False) -> Path:
    """model.onnx in `folder`, with tokenizer.json, tokenizer_config.json and config.json; the model's path."""
    onnx.save(_Export(tied).model(), folder / "model.onnx")
    text, _ = tokenizer_from_gguf(byte_metadata())
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    facts = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "config.json").write_text(
        json.dumps({"max_position_embeddings": 64, "eos_token_id": 2}), encoding="utf-8"
    )
    return folder / "model.onnx"
