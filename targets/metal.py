"""Apple's graphics processors: kernels in the Metal Shading Language, as source only."""

from __future__ import annotations

from .aarch64 import TARGETS as ARM
from .gpu import Gpu

# SIMD groups are of 32; buffers of a dispatch may begin at any multiple of 4 bytes
TARGETS = {
    "metal": Gpu(
        "metal", "", "", (), vector_bytes=16, registers=32, api="metal", host=ARM["aarch64"], workgroup=64, tile=4
    )
}  # fmt: skip
