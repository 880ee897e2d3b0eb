"""A GGUF file's matrices in fewer bits than it has them in, where that was asked for.

In ggml's own types of 32 weights a block, by the package gguf: as llama.cpp's tool does, without an importance matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.gguf.tensor import Tensor
from compiler.gguf.types import TYPES, GgmlType
from targets.errors import UsageError

SCHEMES = {  # by what users name them: the ggml type
    "int4x8": "Q4_1", "int8x8": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1", "q5_0": "Q5_0", "q5_1": "Q5_1", "q8_0": "Q8_0",
}  # fmt: skip
PIECE = 1 << 22  # weights at a time


def requantized(weights: Mapping[str, Tensor], scheme: str) -> tuple[dict[str, Tensor], str]:
    """The weights with every matrix that takes more bits than the scheme's type in that type, and a note. Vectors, and
    matrices that take no more, stay as they are; the new ones are held in memory.

    Raises UsageError for another scheme than SCHEMES."""
    if scheme not in SCHEMES:
        raise UsageError(f"--quant {scheme}: of .gguf files there are {', '.join(SCHEMES)}")
    kind = next(known for known in TYPES.values() if known.name == SCHEMES[scheme])
    found = {name: _one(tensor, kind) for name, tensor in weights.items()}
    changed = sum(found[name] is not tensor for name, tensor in weights.items())
    before, after = (sum(tensor.nbytes for tensor in some.values()) for some in (weights, found))
    return found, f"requantized {changed} matrices to {kind.name}: {before:,} bytes of weights became {after:,}"


def _one(tensor: Tensor, kind: GgmlType) -> Tensor:
    if len(tensor.shape) != 2 or tensor.shape[1] % kind.weights or tensor.type.bits_per_weight <= kind.bits_per_weight:
        return tensor
    from gguf import GGMLQuantizationType, quants

    rows, width = tensor.shape
    raw = np.empty((rows, width // kind.weights * kind.nbytes), np.uint8)
    step = max(1, PIECE // width)
    for low in range(0, rows, step):
        part = tensor.numpy(slice(low, low + step))
        raw[low : low + step] = quants.quantize(part, GGMLQuantizationType[kind.name])
    return Tensor(tensor.name, tensor.shape, kind, raw)
