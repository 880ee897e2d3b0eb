"""The ggml tensor types as data: how many weights and bytes a block has, and what takes it apart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.gguf import codings
from compiler.gguf.blocks import Blocks


@dataclass(frozen=True)
class GgmlType:
    """One tensor type."""

    name: str
    weights: int
    """Weights of a block; a row is a whole number of blocks."""
    nbytes: int
    """Bytes of a block."""
    blocks: Callable[[np.ndarray], Blocks] | None = None
    """uint8 [N, blocks, nbytes] -> Blocks of N rows; None for a plain float type."""

    @property
    def bits_per_weight(self) -> float:
        """Stored bits, scales included."""
        return 8 * self.nbytes / self.weights


TYPES = {
    0: GgmlType("F32", 1, 4),
    1: GgmlType("F16", 1, 2),
    2: GgmlType("Q4_0", 32, 18, codings.q4_0),
    3: GgmlType("Q4_1", 32, 20, codings.q4_1),
    6: GgmlType("Q5_0", 32, 22, codings.q5_0),
    7: GgmlType("Q5_1", 32, 24, codings.q5_1),
    8: GgmlType("Q8_0", 32, 34, codings.q8_0),
    12: GgmlType("Q4_K", 256, 144, codings.q4_k),
    13: GgmlType("Q5_K", 256, 176, codings.q5_k),
    14: GgmlType("Q6_K", 256, 210, codings.q6_k),
    30: GgmlType("BF16", 1, 2),
}
"""By ggml's number."""

OTHERS = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
"""Names of the types that are not read, for messages."""


def type_name(number: int) -> str:
    """A type as users know it."""
    return TYPES[number].name if number in TYPES else OTHERS.get(number, f"type {number}")
