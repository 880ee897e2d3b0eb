"""A decoder as the graph that is compiled: weights as GGUF has them, a KV cache that stays where it is.

    ids        int64 [seq]                token numbers
    positions  int64 [seq]                their positions
    seen       uint8 [seq, seq]           whether token i attends to token j of these; a triangle for plain text
    past       int64 [1]                  how many tokens the cache holds
    rows       int64 [want]               the tokens whose logits are wanted
    folded     int64 [2]                  with a cache that stores old rows anew: how many are, before and in this run
    cache.N    float16 [1, 2, groups, context, head_dim]    layer N's; the caller's: read, and extended by these tokens
    logits     float32 [want, vocab]     or:
    likeliest  int64 [want]               the first of the greatest logits

standard.py writes the same model in ONNX's own operators; this graph has the compiler's: the products read integers in
blocks, and attention reads the cache where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from compiler.decoder.by_neuron import ByNeuron, down_by_neuron
from compiler.decoder.config import Decoder, Rope
from compiler.decoder.products import Products, Rows
from compiler.gguf import Tensor
from compiler.passes.edit import EDGERT
from targets.kernels.cached_attention_formats import FORMATS

OPSET, IR_VERSION = 23, 11
CONTEXT = -1  # stands for the symbolic dimension


def to_graph(
    decoder: Decoder, weights: Mapping[str, Tensor], context: int | None = None, cache: str = "f16",
    neurons: ByNeuron | None = None, likeliest: bool = False,
) -> ir.Model:  # fmt: skip
    """The graph. Weights are decoded when their bytes are asked for, a part at a time. `context`: the most positions.

    cache: how keys and values are stored (targets/kernels/cached_attention_formats.py); a format of several tensors has
    the inputs cache.N, cache.N.1 and so on. neurons: which of them feed-forward layers leave out. likeliest: gives
    those instead of logits, of a decoder that `tells_likeliest`. Symbolic dimensions: seq, want, context.
    """
    return _Graph(decoder, weights, context or decoder.context, cache, neurons).model(likeliest)


def tells_likeliest(decoder: Decoder, weights: Mapping[str, Tensor]) -> bool:
    """Whether the likeliest tokens can be had without all logits."""
    return not decoder.final_softcap and _Graph(decoder, weights, 1, "f16", None).in_planes


class _Graph(Products):
    def __init__(
        self, decoder: Decoder, weights: Mapping[str, Tensor], context: int, cache: str, neurons: ByNeuron | None
    ) -> None:
        super().__init__(weights)
        self.neurons = neurons
        self.head = "embedding" if decoder.tied else "head"
        self.decoder, self.context, self.cache = decoder, context, cache
        d = decoder
        parts = FORMATS[cache].shapes(1, d.kv_heads, CONTEXT, d.head_dim, d.heads // d.kv_heads)
        self.caches = [[f"cache.{i}{f'.{n}' if n else ''}" for n in range(len(parts))] for i in range(d.layers)]
        self.inputs = {
            "ids": _value("ids", ir.DataType.INT64, ("seq",)),
            "positions": _value("positions", ir.DataType.INT64, ("seq",)),
            "seen": _value("seen", ir.DataType.UINT8, ("seq", "seq")),
            "past": _value("past", ir.DataType.INT64, (1,)),
            "rows": _value("rows", ir.DataType.INT64, ("want",)),
            **({"folded": _value("folded", ir.DataType.INT64, (2,))} if FORMATS[cache].folds else {}),
            **{
                name: _value(
                    name, ir.DataType.from_numpy(np.dtype(dtype)), ["context" if n is CONTEXT else n for n in shape]
                )
                for names in self.caches
                for name, (shape, dtype) in zip(names, parts, strict=True)
            },
        }

    def model(self, likeliest: bool = False) -> ir.Model:
        d = self.decoder
        x = self.embedding()
        for i in range(d.layers):
            x = self.layer(x, i)
        rows = self.normed(x, "final_norm", self.head)
        result = self.likeliest(rows) if likeliest else self.logits(rows)
        graph = ir.Graph(
            list(self.inputs.values()), [result], nodes=self.nodes, initializers=list(self.initializers.values()),
            name=d.name or d.architecture, opset_imports={"": OPSET, EDGERT: 1},
        )  # fmt: skip
        return ir.Model(graph, ir_version=IR_VERSION)

    def likeliest(self, x: Rows) -> ir.Value:
        """The first of the greatest logits."""
        operands, attributes = self.blocks(self.head)
        inputs = [*x.codes[:2], self.sums(x, self.head), *operands]
        result = self.op("LikeliestBlocks", inputs, "likeliest", EDGERT, **attributes)
        result.dtype, result.shape = ir.DataType.INT64, ir.Shape(("want",))
        return result

    def logits(self, x: Rows) -> ir.Value:
        """All of them."""
        d = self.decoder
        logits = self.linear(x, self.head, "scores")
        if d.final_softcap:
            inner = self.op("Tanh", [self.scaled(logits, 1 / d.final_softcap, "scores.inner")], "scores.tanh")
            logits = self.scaled(inner, d.final_softcap, "scores.capped")
        logits = self.op("Identity", [logits], "result")
        logits.name = "logits"
        logits.dtype, logits.shape = ir.DataType.FLOAT, ir.Shape(("want", d.vocab))
        return logits

    def layer(self, x: ir.Value, i: int) -> ir.Value:
        d, at = self.decoder, f"layers.{i}"
        names = [f"{at}.{name}" for name in "qkv"]
        q, k, v = self.linears(self.normed(x, f"{at}.attn_norm", *names), names, d.qkv_bias)
        if d.qk_norm:
            q = self.head_norm(q, f"{at}.q_norm", d.heads)
            k = self.head_norm(k, f"{at}.k_norm", d.kv_heads)
        cosine, sine = self.rotation(d.ropes[i])
        taken = [self.inputs[name] for name in ("past", "positions", "seen")]
        first, *others = (self.inputs[name] for name in self.caches[i])
        folded = [self.inputs["folded"]] if "folded" in self.inputs else []
        attended = self.op(
            "CachedAttention", [q, k, v, first, *taken, cosine, sine, *others, *folded], f"{at}.attention", EDGERT,
            2 + len(others), layer=0, heads=d.heads, groups=d.kv_heads, interleaved=int(d.ropes[i].interleaved),
            scale=float(d.attention_scale), window=d.windows[i] or 0, format=self.cache,
        )  # fmt: skip
        if i == d.layers - 1:  # from here on nothing of the other rows is read: their keys and values are stored
            x, attended = self.wanted(x, f"{at}.wanted"), self.wanted(attended, f"{at}.attention.wanted")
        o = self.linear(self.quantized(attended, f"{at}.o"), f"{at}.o")
        if d.post_norms:
            o = self.norm(o, f"{at}.post_attn_norm")
        x = self.op("Add", [x, o], f"{at}.middle")
        names = [f"{at}.gate", f"{at}.up"]
        gate, up = self.linears(self.normed(x, f"{at}.ffn_norm", *names), names)
        if self.neurons is None:
            down = self.linear(self.gated(gate, up, at), f"{at}.down")
        else:
            down = down_by_neuron(self, self.hidden(gate, up, at), at, self.neurons)
        if d.post_norms:
            down = self.norm(down, f"{at}.post_ffn_norm")
        return self.op("Add", [x, down], f"{at}.end")

    # ---- pieces -----------------------------------------------------------------------------------------------------
    def embedding(self) -> ir.Value:
        weight = self.weights["embedding"]
        if weight.quantized:
            operands, attributes = self.blocks("embedding")
            x = self.op("GatherBlocks", [self.inputs["ids"], *operands], "embedded", EDGERT, **attributes)
        else:
            x = self.op("Gather", [self.floats("embedding"), self.inputs["ids"]], "embedded", axis=0)
        scale = self.decoder.embedding_scale
        return x if scale == 1.0 else self.scaled(x, scale, "embedded.scaled")

    def wanted(self, x: ir.Value, stem: str) -> ir.Value:
        """Rows whose logits are wanted."""
        return self.op("Gather", [x, self.inputs["rows"]], stem, axis=0)

    def norm(self, x: ir.Value, name: str) -> ir.Value:
        inputs = [x, self.floats(name)]
        return self.op("RMSNormalization", inputs, f"{name}.out", axis=-1, epsilon=float(self.decoder.norm_eps))

    def head_norm(self, x: ir.Value, name: str, heads: int) -> ir.Value:
        """Each head by itself."""
        d = self.decoder
        apart = self.op("Reshape", [x, self.numbers((-1, heads, d.head_dim))], f"{name}.apart")
        return self.op("Reshape", [self.norm(apart, name), self.numbers((-1, heads * d.head_dim))], f"{name}.joined")

    def normed(self, x: ir.Value, name: str, *readers: str) -> Rows:
        """Normalised rows for products with the weights `readers`."""
        if not all(self.weights[reader].quantized for reader in readers):
            return self.quantized(self.norm(x, name), *readers)
        inputs = [x, self.floats(name)]
        return self.codes("NormCodes", inputs, f"{name}.out", readers, epsilon=float(self.decoder.norm_eps))

    def gated(self, gate: ir.Value, up: ir.Value, at: str) -> Rows:
        """activation(gate) * up for the product that follows."""
        if self.weights[f"{at}.down"].quantized:
            name = "silu" if self.decoder.activation == "silu" else "gelu_tanh"
            return self.codes("GatedCodes", [gate, up], f"{at}.gated", [f"{at}.down"], activation=name)
        return Rows(self.hidden(gate, up, at))

    def hidden(self, gate: ir.Value, up: ir.Value, at: str) -> ir.Value:
        """activation(gate) * up in floats."""
        if self.decoder.activation == "silu":
            active = self.op("Mul", [gate, self.op("Sigmoid", [gate], f"{at}.sigmoid")], f"{at}.active")
        else:
            active = self.op("Gelu", [gate], f"{at}.active", approximate="tanh")
        return self.op("Mul", [active, up], f"{at}.gated")

    def rotation(self, rope: Rope) -> tuple[ir.Value, ir.Value]:
        """Cosine and sine of every position; layers alike share them."""
        name = f"rope.{rope.theta:g}.{rope.dims}.{rope.scale:g}.{hash(rope.factors) & 0xFFFF:x}"
        shape = (self.context, rope.dims // 2)
        return (
            self.lazy(f"{name}.cos", np.float32, shape, lambda: rope.tables(self.context)[0]),
            self.lazy(f"{name}.sin", np.float32, shape, lambda: rope.tables(self.context)[1]),
        )


def _value(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
