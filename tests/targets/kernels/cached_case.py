"""Cached attention by numpy in float64, and one random call of the kernels compared with it."""

from __future__ import annotations

import numpy as np

from compiler.codegen.jit import compile_stages, stage_arrays
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor, extent
from targets.target import Target


def rope(x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> np.ndarray:
    """x [S, heads, D] turned."""
    half = cos.shape[1]
    c, s = cos[positions][:, None].astype(np.float64), sin[positions][:, None].astype(np.float64)
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (
        slice(0, half), slice(half, 2 * half)
    )  # fmt: skip
    y = x.astype(np.float64)
    y[..., first], y[..., second] = (
        x[..., first] * c - x[..., second] * s, x[..., second] * c + x[..., first] * s
    )  # fmt: skip
    return y


def visible(past: int, positions: np.ndarray, seen: np.ndarray, window: int) -> np.ndarray:
    """bool [S, past + S]: what each new row sees."""
    rows = len(positions)
    places = np.concatenate([np.arange(past), positions])
    sees = np.concatenate([np.ones((rows, past), bool), seen != 0], axis=1)
    return sees & (positions[:, None] - places < window) if window else sees


def attend(q: np.ndarray, keys: np.ndarray, values: np.ndarray, sees: np.ndarray, scale: float) -> np.ndarray:
    """q [S, H, D], keys and values [T, G, D] -> [S, H * D] in float64; zeros for a row that sees nothing."""
    each = q.shape[1] // keys.shape[1]
    k, v = (np.repeat(x.astype(np.float64), each, axis=1) for x in (keys, values))
    scores = np.einsum("shd,thd->hst", q, k) * scale
    scores = np.where(sees, scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    power = np.exp(scores - np.where(np.isinf(top), 0.0, top))
    total = power.sum(-1, keepdims=True)
    weights = power / np.where(total == 0, 1.0, total)
    return np.einsum("hst,thd->shd", weights, v).reshape(len(q), -1)


def causal(rows: int) -> np.ndarray:
    """Every new row sees itself and those before."""
    return np.tril(np.ones((rows, rows), np.uint8))


def call_of(
    target: Target, arrays: dict[str, np.ndarray], attrs: dict, shapes: dict | None = None
) -> tuple[list, dict[str, Tensor], list[Tensor]]:
    """Stages, the input leaves by name and the results (out, cache, ...) of a call on these arrays."""
    shapes = shapes or {}
    leaves = {n: Tensor(tuple(shapes.get(n, a.shape)), str(a.dtype), n) for n, a in arrays.items()}
    out = Tensor(leaves["q"].shape, "float32", "out")
    after = [Tensor(t.shape, t.dtype, f"{n}_after") for n, t in leaves.items() if n in ("cache", "scales")]
    outputs = [Tensor(t.shape, t.dtype, "o") for t in (out, *after)]
    call = Call("edgert.CachedAttention", attrs, list(leaves.values()), outputs, outputs[0], [out, *after])
    stages = stages_for(call, target)
    assert stages is not None
    return stages, leaves, [out, *after]


def prepare(stages: list, leaves: dict, results: list, arrays: dict, target: Target, dims: dict) -> tuple:
    """(the call, its arrays): results stand on copies of the cache, as the runner has them in the same memory."""
    feeds = {id(leaves[n]): a for n, a in arrays.items()}
    feeds |= {id(t): arrays[t.name.removesuffix("_after")] for t in results[1:]}
    made = stage_arrays(stages, feeds, results, dims)
    return compile_stages(stages, target)(made, dims), made


__all__ = ["attend", "call_of", "causal", "extent", "prepare", "rope", "visible"]
