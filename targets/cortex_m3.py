"""Cortex-M3: Armv7-M, no FPU, no DSP."""

from .microcontroller import cortex_m

_TARGET = cortex_m("cortex-m3", "thumbv7m-unknown-none-eabi", "mps2-an385", "cortex_m3")

TARGETS = {_TARGET.name: _TARGET}
