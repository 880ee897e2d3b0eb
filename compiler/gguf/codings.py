"""Takes ggml's blocks apart, one function a type: bytes -> Blocks.

Layouts as ggml's reference has them (ggml-common.h, dequantize_row_* in ggml-quants.c). Every function gets uint8
[N, blocks, bytes of a block] and returns the `Blocks` of N rows. Scales that are NaN or infinite stay so.
"""

import numpy as np

from compiler.gguf.blocks import Blocks

_NIBBLES = np.array([0, 4], np.uint8)
_HIGH_PAIRS = np.array([0, 2, 4, 6], np.uint8)
_EIGHT = np.arange(8, dtype=np.uint8)


def q4_0(raw: np.ndarray) -> Blocks:
    """scale f16, 32 codes; weight = scale * (code - 8)."""
    return Blocks(_flat(_halves(raw[..., 2:])), 4, 32, _single(raw[..., :2]), zero=8)


def q4_1(raw: np.ndarray) -> Blocks:
    """scale f16, minimum f16, 32 codes; weight = scale * code + minimum."""
    return Blocks(_flat(_halves(raw[..., 4:])), 4, 32, _single(raw[..., :2]), _single(raw[..., 2:4]))


def q5_0(raw: np.ndarray) -> Blocks:
    """scale f16, 32 fifth bits, 32 codes; weight = scale * (code - 16)."""
    return Blocks(_five(raw[..., 2:]), 5, 32, _single(raw[..., :2]), zero=16)


def q5_1(raw: np.ndarray) -> Blocks:
    """scale f16, minimum f16, 32 fifth bits, 32 codes; weight = scale * code + minimum."""
    return Blocks(_five(raw[..., 4:]), 5, 32, _single(raw[..., :2]), _single(raw[..., 2:4]))


def q8_0(raw: np.ndarray) -> Blocks:
    """scale f16, 32 int8; they become codes by adding 128."""
    return Blocks(_flat(raw[..., 2:] ^ np.uint8(0x80)), 8, 32, _single(raw[..., :2]), zero=128)


def q4_k(raw: np.ndarray) -> Blocks:
    """scale f16, minimum f16, 8 scales and minima of 6 bits, 256 codes."""
    return _k_minimum(raw, _runs(raw[..., 16:], 32), 4)


def q5_k(raw: np.ndarray) -> Blocks:
    """As Q4_K, with 256 fifth bits before the codes."""
    high = (raw[..., 16:48, None].swapaxes(-1, -2) >> _EIGHT[:, None]) & np.uint8(1)  # [..., 8, 32]
    low = _runs(raw[..., 48:], 32)
    return _k_minimum(raw, low | _flat(high << np.uint8(4)), 5)


def q6_k(raw: np.ndarray) -> Blocks:
    """256 low nibbles, 256 high pairs, 16 scales of 8 bits, scale f16; weight = scale * sub-scale * (code - 32)."""
    low = _runs(raw[..., :128], 64)
    pairs = raw[..., 128:192].reshape(*raw.shape[:2], 2, 1, 32)
    high = (pairs >> _HIGH_PAIRS[:, None]) & np.uint8(3)  # [N, blocks, 2, 4, 32]
    sub = np.ascontiguousarray(raw[..., 192:208]).view(np.int8)
    scale = _halfs(raw[..., 208:210])
    return Blocks(
        codes=low | _flat(high << np.uint8(4)),
        bits=6,
        size=16,
        scale=_flat(scale.astype(np.float32)[..., None] * sub.astype(np.float32)),
        zero=32,
        super_scale=scale,
        sub_scale=_flat(sub),
    )


def _k_minimum(raw: np.ndarray, codes: np.ndarray, bits: int) -> Blocks:
    """Q4_K and Q5_K start alike: scale, minimum, then the 8 scales and 8 minima in 12 bytes."""
    scale, least = _halfs(raw[..., :2]), _halfs(raw[..., 2:4])
    a, b, c = raw[..., 4:8], raw[..., 8:12], raw[..., 12:16]
    sub_scale = np.concatenate([a & 0x3F, (c & 0x0F) | ((a >> 2) & 0x30)], axis=-1)
    sub_min = np.concatenate([b & 0x3F, (c >> 4) | ((b >> 2) & 0x30)], axis=-1)
    return Blocks(
        codes=codes,
        bits=bits,
        size=32,
        scale=_flat(scale.astype(np.float32)[..., None] * sub_scale.astype(np.float32)),
        minimum=-_flat(least.astype(np.float32)[..., None] * sub_min.astype(np.float32)),
        super_scale=scale,
        sub_scale=_flat(sub_scale),
        super_min=least,
        sub_min=_flat(sub_min),
    )


def _flat(x: np.ndarray) -> np.ndarray:
    """[N, ...] -> [N, the rest], contiguous."""
    return np.ascontiguousarray(x).reshape(x.shape[0], -1)


def _halfs(x: np.ndarray) -> np.ndarray:
    """uint8 [N, blocks, 2] -> float16 [N, blocks]."""
    return np.ascontiguousarray(x).view(np.float16)[..., 0]


def _single(x: np.ndarray) -> np.ndarray:
    """uint8 [N, blocks, 2], a float16 -> float32 [N, blocks]."""
    return _halfs(x).astype(np.float32)


def _halves(x: np.ndarray) -> np.ndarray:
    """uint8 [N, blocks, 16] -> [N, blocks, 32]: the low nibbles are the first half."""
    return ((x[..., None, :] >> _NIBBLES[:, None]) & np.uint8(0x0F)).reshape(*x.shape[:2], 32)


def _runs(x: np.ndarray, run: int) -> np.ndarray:
    """uint8 [N, blocks, 128] -> [N, blocks * 256]: of each `run` bytes first the low nibbles, then the high ones."""
    runs = x.reshape(*x.shape[:2], -1, 1, run)
    return _flat((runs >> _NIBBLES[:, None]) & np.uint8(0x0F))


def _five(x: np.ndarray) -> np.ndarray:
    """uint8 [N, blocks, 4 + 16], fifth bits before nibbles -> codes [N, blocks * 32]."""
    fifth = np.unpackbits(np.ascontiguousarray(x[..., :4]), axis=-1, bitorder="little")
    return _flat(_halves(x[..., 4:]) | (fifth << np.uint8(4)))
