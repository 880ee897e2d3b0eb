"""Browsers' graphics processors: kernels in WGSL, as source only."""

from __future__ import annotations

from .aarch64 import TARGETS as ARM
from .gpu import Gpu

# WGSL has 32-bit types alone in memory; a binding's offset is a multiple of 256 unless the adapter says less
TYPES = frozenset({"float32", "int32", "uint32"})
TARGETS = {
    "webgpu": Gpu(
        "webgpu", "", "", (), vector_bytes=16, registers=32, alignment=256, api="webgpu", types=TYPES,
        host=ARM["aarch64"], workgroup=64, tile=4,
    )
}  # fmt: skip
