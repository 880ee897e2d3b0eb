"""Small seeded models of every architecture, written as GGUF files."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from tests.gguf.files import add, finish, put

KINDS = ("Q8_0", "Q4_1", "Q5_0", "F16", "Q4_0", "Q5_1", "BF16", "F32")
"""Types whose blocks fit rows of 64, taken in turns."""


@dataclass(frozen=True)
class Small:
    """What a family has, written down here once more so that the table in the compiler is checked by it."""

    architecture: str
    layers: int = 2
    width: int = 64
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    ffn: int = 96
    vocab: int = 128
    context: int = 64
    theta: float = 10000.0
    interleaved: bool = False
    rotated: int = 16
    local_theta: float | None = None
    scale: float = 1.0
    """Of positions, in layers without a window."""
    factors: tuple[str, ...] = ()
    """Tensors of factors for the frequencies; the first is the one that counts at the full context."""
    magnitude: float = 1.0
    window: int | None = None
    period: int = 1
    bias: bool = False
    qk_norm: bool = False
    gemma: bool = False
    fused: bool = False
    tied: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS


CASES = {
    "llama": Small("llama", interleaved=True),
    "llama-3": Small("llama", interleaved=True, theta=500000.0, factors=("rope_freqs",), tied=False, bias=True),
    "llama-linear": Small(
        "llama", interleaved=True, scale=0.25, extra={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    ),
    "gemma3": Small(
        "gemma3", layers=7, head=32, rotated=32, kv_heads=1, theta=1e6, local_theta=10000.0, window=4, period=6,
        qk_norm=True, gemma=True, scale=0.125, extra={"rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "gemma3-capped": Small(
        "gemma3", layers=1, local_theta=10000.0, window=6, period=6, qk_norm=True, gemma=True,
        extra={"final_logit_softcapping": 2.5},
    ),
    "qwen2": Small("qwen2", bias=True, theta=1e6),
    "qwen3": Small("qwen3", qk_norm=True, head=32, rotated=32, tied=False, theta=1e6),
    "phi3": Small(
        "phi3", fused=True, tied=False, rotated=8, magnitude=1.19, window=6, kv_heads=4,
        factors=("rope_factors_long", "rope_factors_short"),
        extra={"rope.scaling.original_context_length": 16, "rope.scaling.attn_factor": 1.19},
    ),
    "k-quants": Small(
        "llama", interleaved=True, width=256, head=64, rotated=64, ffn=256, kinds=("Q4_K", "Q5_K", "Q6_K", "Q8_0"),
    ),
}  # fmt: skip


def metadata(s: Small) -> dict[str, Any]:
    """The keys a converter writes."""
    own = {
        "block_count": s.layers,
        "context_length": s.context,
        "embedding_length": s.width,
        "feed_forward_length": s.ffn,
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": s.theta,
        **({"attention.sliding_window": s.window} if s.window else {}),
        **({"attention.key_length": s.head, "attention.value_length": s.head} if s.head * s.heads != s.width else {}),
        **({"rope.dimension_count": s.rotated} if s.rotated != s.head else {}),
        **s.extra,
    }
    return {f"{s.architecture}.{key}": value for key, value in own.items()}


def shapes(s: Small) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file."""
    q, kv = s.heads * s.head, s.kv_heads * s.head
    layer: dict[str, tuple[int, ...]] = {"attn_norm.weight": (s.width,), "ffn_norm.weight": (s.width,)}
    layer |= {"attn_output.weight": (s.width, q), "ffn_down.weight": (s.width, s.ffn)}
    if s.fused:
        layer |= {"attn_qkv.weight": (q + 2 * kv, s.width), "ffn_up.weight": (2 * s.ffn, s.width)}
    else:
        layer |= {"attn_q.weight": (q, s.width), "attn_k.weight": (kv, s.width), "attn_v.weight": (kv, s.width)}
        layer |= {"ffn_gate.weight": (s.ffn, s.width), "ffn_up.weight": (s.ffn, s.width)}
    if s.bias:
        layer |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    if s.qk_norm:
        layer |= {"attn_q_norm.weight": (s.head,), "attn_k_norm.weight": (s.head,)}
    if s.gemma:
        layer |= {"post_attention_norm.weight": (s.width,), "post_ffw_norm.weight": (s.width,)}
    every: dict[str, tuple[int, ...]] = {"token_embd.weight": (s.vocab, s.width), "output_norm.weight": (s.width,)}
    if not s.tied:
        every["output.weight"] = (s.vocab, s.width)
    every |= {f"{name}.weight": (s.rotated // 2,) for name in s.factors}
    return every | {f"blk.{i}.{name}": shape for i in range(s.layers) for name, shape in layer.items()}


def write(
    path: Path, s: Small, drop: str = "", odd: str = "", keys: dict[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Write the model; returns its weights as gguf decodes them, by their names in the file.

    Without the tensors that contain `drop`; those that contain `odd` get one row more; `keys` changes metadata.
    """
    rng, writer, kinds = np.random.default_rng(11), gguf.GGUFWriter(path, s.architecture), cycle(s.kinds)
    found = {**metadata(s), **(keys or {})}
    put(writer, {key: value for key, value in found.items() if value is not None})
    weights = {}
    for name, shape in shapes(s).items():
        if drop and drop in name:
            continue
        if odd and odd in name:
            shape = (shape[0] + 1, *shape[1:])
        if len(shape) == 1:
            values, kind = rng.uniform(0.5, 1.5, shape).astype(np.float32), "F32"
        else:
            values, kind = rng.normal(0, 1.5 / shape[1] ** 0.5, shape).astype(np.float32), next(kinds)
        stored = quantized(rng, values, kind)
        add(writer, name, kind, stored)
        weights[name] = gguf.quants.dequantize(stored, Type[kind])
    finish(writer)
    return weights


def quantized(rng: np.random.Generator, values: np.ndarray, kind: str) -> np.ndarray:
    """gguf's own quantizer; the K types, for which it has none, get random codes of about the same spread."""
    if not kind.endswith("_K"):
        return gguf.quants.quantize(values, Type[kind])
    rows, columns = values.shape
    weights, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    raw = rng.integers(0, 256, (rows, columns // weights, size), np.uint8)
    sigma = float(values.std())
    if kind == "Q6_K":  # a code spreads by 18, a sub-scale by 74
        halves = {208: sigma / (18 * 74)}
    else:  # sub-scales spread from 0 to 63, codes to 15 or 31; the minimum takes the middle away
        top = 15 if kind == "Q4_K" else 31
        halves = {0: sigma / (63 * top) * 3, 2: sigma / 63 * 1.5}
    for at, scale in halves.items():
        raw[..., at : at + 2] = np.full((rows, columns // weights, 1), scale, "<f2").view(np.uint8)
    return raw.reshape(rows, -1)
