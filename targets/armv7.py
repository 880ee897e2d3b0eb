"""32-bit Arm with Linux and NEON: older phones, Raspberry Pi 2, boards with Cortex-A5, A7, A15 and later."""

from .target import Target

_TARGET = Target(
    # with VFPv4, which every core with NEON since 2011 has: without fused multiply-add they would be calls
    "armv7-neon", "armv7-unknown-linux-gnueabihf", "cortex-a7", ("neon", "vfpv4"), vector_bytes=16, registers=16,
    dot="portable", pointer_bytes=4,
)  # fmt: skip

TARGETS = {_TARGET.name: _TARGET}
