"""Cortex-M0+: Armv6-M, no FPU, no DSP, no unaligned access."""

from .microcontroller import cortex_m

_TARGET = cortex_m(
    "cortex-m0plus", "thumbv6m-unknown-none-eabi", "generic-m0plus", "cortex_m0plus", attrs=("+strict-align",)
)

TARGETS = {_TARGET.name: _TARGET}
