"""Arm's Mali beside an Arm CPU with dot products."""

from __future__ import annotations

from .aarch64 import TARGETS as ARM
from .gpu import beside

# more than 32 registers an item halve the threads that are in flight
TARGETS = beside(ARM["cortex-a76"], "opencl-mali", workgroup=64, tile=4)
