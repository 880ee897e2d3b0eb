"""A decoder's forward pass in plain numpy and float64, the whole sequence at once, by the families' own definitions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.decoder.small import Small

Weights = Mapping[str, np.ndarray]


def logits(s: Small, weights: Weights, ids: list[int], factors: str | None = None) -> np.ndarray:
    """float64 [tokens, vocab]; `factors` names the tensor that divides the frequencies (default: the first)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    factors = factors or (s.factors[0] if s.factors else None)
    divisor = w[f"{factors}.weight"] if factors else np.ones(s.rotated // 2)
    x = w["token_embd.weight"][ids]
    if s.gemma:
        x = x * np.sqrt(s.width)
    for index in range(s.layers):
        layer = {name.split(".", 2)[2]: value for name, value in w.items() if name.startswith(f"blk.{index}.")}
        y = attention(s, layer, norm(x, layer["attn_norm.weight"]), index, divisor)
        x = x + (norm(y, layer["post_attention_norm.weight"]) if s.gemma else y)
        y = feed_forward(s, layer, norm(x, layer["ffn_norm.weight"]))
        x = x + (norm(y, layer["post_ffw_norm.weight"]) if s.gemma else y)
    head = w["token_embd.weight"] if s.tied else w["output.weight"]
    found = norm(x, w["output_norm.weight"]) @ head.T
    cap = s.extra.get("final_logit_softcapping")
    return cap * np.tanh(found / cap) if cap else found


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def attention(s: Small, w: Weights, x: np.ndarray, index: int, divisor: np.ndarray) -> np.ndarray:
    tokens, q_size, kv_size = len(x), s.heads * s.head, s.kv_heads * s.head
    if s.fused:
        q, k, v = np.split(x @ w["attn_qkv.weight"].T, [q_size, q_size + kv_size], axis=1)
    else:
        q, k, v = (x @ w[f"attn_{part}.weight"].T for part in "qkv")
    if s.bias:
        q, k, v = q + w["attn_q.bias"], k + w["attn_k.bias"], v + w["attn_v.bias"]
    q, k, v = (part.reshape(tokens, -1, s.head) for part in (q, k, v))
    if s.qk_norm:
        q, k = norm(q, w["attn_q_norm.weight"]), norm(k, w["attn_k_norm.weight"])
    # In a family that mixes both, the last layer of every period sees all; elsewhere all have the window.
    local = s.window is not None and (s.period == 1 or index % s.period != s.period - 1)
    theta, scale = s.theta, s.scale
    if local and s.local_theta is not None:
        theta, scale = s.local_theta, 1.0
    angles = np.arange(tokens)[:, None] * scale / (theta ** (np.arange(0, s.rotated, 2) / s.rotated) * divisor)
    q, k = rotate(s, q, angles), rotate(s, k, angles)
    out = np.empty_like(q)
    for head in range(s.heads):
        shared = head // (s.heads // s.kv_heads)
        for token in range(tokens):
            first = max(0, token - s.window + 1) if local and s.window else 0
            scores = k[first : token + 1, shared] @ q[token, head] / np.sqrt(s.head)
            share = np.exp(scores - scores.max())
            out[token, head] = share @ v[first : token + 1, shared] / share.sum()
    return out.reshape(tokens, -1) @ w["attn_output.weight"].T


def rotate(s: Small, x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Pairs as complex numbers, turned."""
    half = s.rotated // 2
    turn = (np.exp(1j * angles) * s.magnitude)[:, None, :]
    y = x.copy()
    if s.interleaved:
        turned = (x[..., 0 : s.rotated : 2] + 1j * x[..., 1 : s.rotated : 2]) * turn
        y[..., 0 : s.rotated : 2], y[..., 1 : s.rotated : 2] = turned.real, turned.imag
    else:
        turned = (x[..., :half] + 1j * x[..., half : s.rotated]) * turn
        y[..., :half], y[..., half : s.rotated] = turned.real, turned.imag
    return y


def feed_forward(s: Small, w: Weights, x: np.ndarray) -> np.ndarray:
    if s.fused:
        gate, up = np.split(x @ w["ffn_up.weight"].T, 2, axis=1)
    else:
        gate, up = x @ w["ffn_gate.weight"].T, x @ w["ffn_up.weight"].T
    if s.gemma:
        active = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    else:
        active = gate / (1 + np.exp(-gate))
    return (active * up) @ w["ffn_down.weight"].T
