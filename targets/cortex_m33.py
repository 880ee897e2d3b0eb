"""Cortex-M33: Armv8-M mainline with DSP and a single-precision FPU."""

from .microcontroller import FEW_COPIES, cortex_m

_TARGET = cortex_m(
    "cortex-m33",
    "thumbv8m.main-unknown-none-eabihf",
    "mps2-an505",
    "cortex_m33+dsp+fp_armv8d16sp",
    dot="smlad",
    base="cortex-m4",
    llvm_options=FEW_COPIES,
)

TARGETS = {_TARGET.name: _TARGET}
