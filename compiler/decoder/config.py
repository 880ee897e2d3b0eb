"""A decoder-only language model as data: all that its graph needs besides the weights."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of one layer's queries and keys."""

    theta: float
    """Base of the frequencies."""
    dims: int
    """The first elements of a head that turn; even. The others stay."""
    interleaved: bool
    """Pairs are (0, 1), (2, 3), ... rather than (0, dims / 2), (1, dims / 2 + 1), ..."""
    scale: float = 1.0
    """Positions are multiplied by it (linear scaling by a factor f: 1 / f)."""
    factors: tuple[float, ...] | None = None
    """Divide the frequencies (Llama 3, LongRoPE); dims / 2 of them."""
    magnitude: float = 1.0
    """Multiplies cosine and sine (LongRoPE)."""

    def frequencies(self) -> np.ndarray:
        """Radians a position, float64 [dims / 2]."""
        frequencies = self.scale * self.theta ** (-np.arange(0, self.dims, 2) / self.dims)
        return frequencies if self.factors is None else frequencies / np.array(self.factors)

    def tables(self, positions: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosine and sine for the positions from 0, float32 [positions, dims / 2] each, rounded once."""
        angles = np.arange(positions, dtype=np.float64)[:, None] * self.frequencies()
        return (np.cos(angles) * self.magnitude).astype(np.float32), (np.sin(angles) * self.magnitude).astype(
            np.float32
        )


@dataclass(frozen=True)
class Decoder:
    """A stack of pre-norm layers with grouped-query attention and a gated feed-forward.

    A layer, of x [seq, width]:

        x = x + post_attn_norm?(o(attention(rope(q_norm?(q(y))), rope(k_norm?(k(y))), v(y))))   y = attn_norm(x)
        x = x + post_ffn_norm?(down(activation(gate(z)) * up(z)))                               z = ffn_norm(x)

    Norms are RMS norms whose weights are multiplied as they are (GGUF has Gemma's + 1 in them already). A matrix
    [out, in] gives x @ matrix.T.
    """

    architecture: str
    name: str
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    """The most positions the model was made for, or fewer where asked."""
    norm_eps: float
    activation: Activation
    attention_scale: float
    """Multiplies query . key."""
    windows: tuple[int | None, ...]
    """A layer's sliding window: a token sees itself and the window - 1 before it; None sees all."""
    ropes: tuple[Rope, ...]
    """One a layer."""
    embedding_scale: float = 1.0
    qk_norm: bool = False
    post_norms: bool = False
    qkv_bias: bool = False
    tied: bool = False
    """The head is the embedding."""
    final_softcap: float = 0.0
    """Logits x become cap * tanh(x / cap); 0: they stay."""
