"""GGUF's architectures as data: which tensors a model has, and what differs between the families.

Names and defaults as in llama.cpp (gguf-py's constants.py and tensor_mapping.py; src/llama-model.cpp).
"""

from dataclasses import dataclass

from compiler.decoder.config import Activation


@dataclass(frozen=True)
class Slot:
    """A tensor of the file: what becomes of it, and the shape it must have.

    Sizes are names: width, q (heads x head size), kv (kv heads x head size), head, ffn, vocab.
    """

    gguf: str
    """Name in the file; in a layer without `blk.N.`."""
    parts: tuple[tuple[str, str], ...]
    """Canonical name and size of the rows, one after the other; more than one where the file has them fused."""
    columns: str | None = "width"
    """Size of a row; None for a vector."""
    optional: bool = False


@dataclass(frozen=True)
class Architecture:
    """One value of `general.architecture`."""

    layer: tuple[Slot, ...]
    activation: Activation = "silu"
    interleaved_rope: bool = False
    window_period: int = 1
    """Every so many layers one sees all, the last of them; 1: all layers have the window, if there is one."""
    default_window_theta: float | None = None
    """Base of the rotation in layers with a window, without linear scaling; None: as everywhere."""
    scaled_embedding: bool = False
    """The embedding is multiplied by the square root of the width."""
    width_scaled_layers: int = 0
    """A model of that many layers scales scores by (width / heads)^-1/2 rather than by (head size)^-1/2."""


def _matrix(gguf: str, name: str, rows: str, columns: str = "width") -> Slot:
    return Slot(gguf + ".weight", ((name, rows),), columns)


def _vector(gguf: str, name: str, size: str, optional: bool = False) -> Slot:
    return Slot(gguf, ((name, size),), None, optional)


_NORMS = (_vector("attn_norm.weight", "attn_norm", "width"), _vector("ffn_norm.weight", "ffn_norm", "width"))
_QKV = (_matrix("attn_q", "q", "q"), _matrix("attn_k", "k", "kv"), _matrix("attn_v", "v", "kv"))
_OUT = (_matrix("attn_output", "o", "width", "q"), _matrix("ffn_down", "down", "width", "ffn"))
_GATED = (_matrix("ffn_gate", "gate", "ffn"), _matrix("ffn_up", "up", "ffn"))
_COMMON = (*_NORMS, *_QKV, *_OUT, *_GATED)
_QK_NORM = (_vector("attn_q_norm.weight", "q_norm", "head"), _vector("attn_k_norm.weight", "k_norm", "head"))
_FUSED = (
    Slot("attn_qkv.weight", (("q", "q"), ("k", "kv"), ("v", "kv"))),
    Slot("ffn_up.weight", (("gate", "ffn"), ("up", "ffn"))),
)
_POST_NORMS = (
    _vector("post_attention_norm.weight", "post_attn_norm", "width"),
    _vector("post_ffw_norm.weight", "post_ffn_norm", "width"),
)


def _bias(optional: bool) -> tuple[Slot, ...]:
    sizes = {"q": "q", "k": "kv", "v": "kv"}
    return tuple(_vector(f"attn_{part}.bias", f"{part}_bias", size, optional) for part, size in sizes.items())


MODEL = (
    Slot("token_embd.weight", (("embedding", "vocab"),)),
    Slot("output_norm.weight", (("final_norm", "width"),), None),
    Slot("output.weight", (("head", "vocab"),), optional=True),
)
"""Outside the layers, the same everywhere; without an output matrix the embedding is it."""

ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Factors for the frequencies; they become part of the configuration."""

ARCHITECTURES = {
    "llama": Architecture((*_COMMON, *_bias(optional=True)), interleaved_rope=True),
    "gemma3": Architecture(
        (*_COMMON, *_QK_NORM, *_POST_NORMS),
        activation="gelu_tanh",
        window_period=6,
        default_window_theta=10000.0,
        scaled_embedding=True,
        width_scaled_layers=62,
    ),
    "qwen2": Architecture((*_COMMON, *_bias(optional=False))),
    "qwen3": Architecture((*_COMMON, *_QK_NORM)),
    "phi3": Architecture((*_NORMS, *_FUSED, *_OUT)),
}
