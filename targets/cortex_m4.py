"""Cortex-M4: Armv7E-M with DSP and a single-precision FPU."""

from .microcontroller import FEW_COPIES, cortex_m

_TARGET = cortex_m(
    "cortex-m4",
    "thumbv7em-unknown-none-eabihf",
    "mps2-an386",
    "cortex_m4+vfp4d16sp",
    dot="smlad",
    llvm_options=FEW_COPIES,
)

TARGETS = {_TARGET.name: _TARGET}
