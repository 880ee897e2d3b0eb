"""The BERT encoder (Devlin et al. 2018, arXiv:1810.04805) as an ONNX graph of primitive operators.

Written the way training frameworks export it (LayerNorm and GELU taken apart, heads split by Reshape and Transpose),
so that what the compiler recognises here it recognises in users' models too. Batch is 1, `seq` stays symbolic.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from compiler.zoo.graph import GraphBuilder

_MASKED = -10000.0  # added to a masked score; exp of it is 0 in float32


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder; `epsilon` is layer norm's, `positions` the longest sequence."""

    layers: int
    heads: int
    epsilon: float = 1e-12
    positions: int = 512


class Bert(GraphBuilder):
    """Builds the graph from the arrays of a state_dict with Hugging Face's names (torch: weights [out, in])."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray], config: BertConfig) -> None:
        super().__init__(name)
        self.arrays = arrays
        self.config = config
        self.hidden = arrays["embeddings.word_embeddings.weight"].shape[1]

    def const(self, name: str, value: float | list[int]) -> str:
        """A float as a float32 scalar, a list as int64 [n]."""
        return self.weight(name, np.array(value, np.float32 if isinstance(value, float) else np.int64))

    def take(self, name: str) -> str:
        """The state_dict's array `name` as a weight."""
        return self.weight(name, self.arrays[name])

    def linear(self, x: str, name: str) -> str:
        """x [1, seq, in] -> [1, seq, out]."""
        weight = self.weight(name + ".weight.T", self.arrays[name + ".weight"].T)
        y = self.op("MatMul", [x, weight], name + ".matmul")
        return self.op("Add", [y, self.take(name + ".bias")], name)

    def layer_norm(self, x: str, name: str) -> str:
        """Over the last axis, with weights `name`.weight and `name`.bias [hidden]."""
        mean = self.op("ReduceMean", [x], name + ".mean", axes=[-1])
        centred = self.op("Sub", [x, mean], name + ".centred")
        squared = self.op("Pow", [centred, self.const("two", 2.0)], name + ".squared")
        variance = self.op("ReduceMean", [squared], name + ".variance", axes=[-1])
        shifted = self.op("Add", [variance, self.const("layer_norm.epsilon", self.config.epsilon)], name + ".shifted")
        deviation = self.op("Sqrt", [shifted], name + ".deviation")
        normal = self.op("Div", [centred, deviation], name + ".normal")
        scaled = self.op("Mul", [normal, self.take(name + ".weight")], name + ".scaled")
        return self.op("Add", [scaled, self.take(name + ".bias")], name)

    def gelu(self, x: str, name: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2))."""
        y = self.op("Div", [x, self.const("sqrt_two", float(np.sqrt(2.0)))], name + ".ratio")
        y = self.op("Add", [self.op("Erf", [y], name + ".erf"), self.const("one", 1.0)], name + ".plus_one")
        y = self.op("Mul", [x, y], name + ".product")
        return self.op("Mul", [y, self.const("half", 0.5)], name)

    def embed(self) -> str:
        """Word, token type and position vectors summed and normalised: [1, seq, hidden]."""
        shape = self.op("Shape", ["input_ids"], "embeddings.shape")
        seq = self.op("Gather", [shape, self.const("axis_1", [1])], "embeddings.seq", axis=0)
        every = self.weight("embeddings.position_ids", np.arange(self.config.positions, dtype=np.int64)[None])
        bounds = [self.const("zero", [0]), seq, self.const("axis_1", [1]), self.const("one_step", [1])]
        positions = self.op("Slice", [every, *bounds], "embeddings.positions")
        parts = [("word", "input_ids"), ("token_type", "token_type_ids"), ("position", positions)]
        rows = [
            self.op("Gather", [self.take(f"embeddings.{part}_embeddings.weight"), ids], f"embeddings.{part}", axis=0)
            for part, ids in parts
        ]
        x = self.op("Add", rows[:2], "embeddings.sum.0")
        return self.layer_norm(self.op("Add", [x, rows[2]], "embeddings.sum"), "embeddings.LayerNorm")

    def mask_bias(self) -> str:
        """attention_mask [1, seq] -> [1, 1, 1, seq], 0 where attended."""
        mask = self.op("Unsqueeze", ["attention_mask", self.const("axes_1_2", [1, 2])], "mask.unsqueezed")
        mask = self.op("Cast", [mask], "mask.float", to=TensorProto.FLOAT)
        mask = self.op("Sub", [self.const("one", 1.0), mask], "mask.inverse")
        return self.op("Mul", [mask, self.const("masked", _MASKED)], "mask.bias")

    def attention(self, x: str, bias: str, name: str) -> str:
        """Scaled dot-product attention over the heads, and its output projection; [1, seq, hidden] both ways."""
        size = self.hidden // self.config.heads

        def heads(part: str, perm: list[int]) -> str:
            y = self.linear(x, f"{name}.self.{part}")
            y = self.op("Reshape", [y, self.const("split_heads", [0, 0, self.config.heads, size])], y + ".split")
            return self.op("Transpose", [y], f"{name}.self.{part}.heads", perm=perm)

        query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
        scores = self.op("MatMul", [query, key], name + ".scores")
        scores = self.op("Div", [scores, self.const("sqrt_head", float(np.sqrt(size)))], name + ".scaled")
        scores = self.op("Add", [scores, bias], name + ".masked")
        weights = self.op("Softmax", [scores], name + ".weights", axis=-1)
        y = self.op("MatMul", [weights, value], name + ".context")
        y = self.op("Transpose", [y], name + ".context.heads", perm=[0, 2, 1, 3])
        y = self.op("Reshape", [y, self.const("join_heads", [0, 0, self.hidden])], name + ".context.joined")
        return self.linear(y, name + ".output.dense")

    def encoder(self) -> str:
        """The value [1, seq, hidden] after the last layer, `last_hidden_state`."""
        x, bias = self.embed(), self.mask_bias()
        for index in range(self.config.layers):
            name = f"encoder.layer.{index}"
            y = self.attention(x, bias, name + ".attention")
            x = self.layer_norm(self.op("Add", [y, x], name + ".attention.sum"), name + ".attention.output.LayerNorm")
            y = self.gelu(self.linear(x, name + ".intermediate.dense"), name + ".gelu")
            y = self.linear(y, name + ".output.dense")
            x = self.layer_norm(self.op("Add", [y, x], name + ".sum"), name + ".output.LayerNorm")
        return self.op("Identity", [x], "last_hidden_state")

    def mean_pool(self, x: str) -> None:
        """`embedding` [1, hidden]: the mean over attended tokens, scaled to length 1."""
        mask = self.op("Unsqueeze", ["attention_mask", self.const("axis_last", [-1])], "pool.unsqueezed")
        mask = self.op("Cast", [mask], "pool.mask", to=TensorProto.FLOAT)
        total = self.op("Mul", [x, mask], "pool.masked")
        total = self.op("ReduceSum", [total, self.const("axis_1", [1])], "pool.total", keepdims=0)
        count = self.op("ReduceSum", [mask, self.const("axis_1", [1])], "pool.sum", keepdims=0)
        count = self.op("Clip", [count, self.const("pool.least", 1e-9)], "pool.count")
        mean = self.op("Div", [total, count], "pool.mean")
        length = self.op("ReduceL2", [mean], "pool.norm", axes=[-1], keepdims=1)
        length = self.op("Clip", [length, self.const("norm.least", 1e-12)], "pool.length")
        self.op("Div", [mean, length], "embedding")


def sentence_encoder(name: str, arrays: dict[str, np.ndarray], config: BertConfig) -> onnx.ModelProto:
    """int64 `input_ids`, `attention_mask`, `token_type_ids` [1, seq] -> float32 `last_hidden_state`
    [1, seq, hidden] and `embedding` [1, hidden] (mean-pooled, length 1)."""
    net = Bert(name, arrays, config)
    net.mean_pool(net.encoder())
    ids: list[int | str] = [1, "seq"]
    hidden: list[int | str] = [1, "seq", net.hidden]
    return net.model(
        [(part, TensorProto.INT64, ids) for part in ("input_ids", "attention_mask", "token_type_ids")],
        [("last_hidden_state", TensorProto.FLOAT, hidden), ("embedding", TensorProto.FLOAT, [1, net.hidden])],
    )
