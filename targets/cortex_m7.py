"""Cortex-M7: Armv7E-M with DSP and a single-precision FPU (parts with double precision run this code, too)."""

from .microcontroller import FEW_COPIES, cortex_m

_TARGET = cortex_m(
    "cortex-m7",
    "thumbv7em-unknown-none-eabihf",
    "mps2-an500",
    "cortex_m7+fp_armv8d16sp",
    attrs=("-fp64",),
    dot="smlad",
    base="cortex-m4",
    llvm_options=FEW_COPIES,
)

TARGETS = {_TARGET.name: _TARGET}
