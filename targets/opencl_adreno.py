"""Qualcomm's Adreno beside an Arm CPU with dot products."""

from __future__ import annotations

from .aarch64 import TARGETS as ARM
from .gpu import beside

# a wave is 64 or 128 items, and registers are plenty
TARGETS = beside(ARM["cortex-a76"], "opencl-adreno", workgroup=128, tile=8)
