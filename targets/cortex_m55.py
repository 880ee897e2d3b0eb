"""Cortex-M55: Armv8.1-M mainline with MVE (Helium), integer and float."""

from .microcontroller import FEW_COPIES, cortex_m

_TARGET = cortex_m(
    "cortex-m55", "thumbv8.1m.main-unknown-none-eabihf", "mps3-an547", "cortex_m55+mve+mve_fp",
    attrs=("+mve.fp", "-fp64"), vector_bytes=16, dot="mve", llvm_options=FEW_COPIES,
)  # fmt: skip

TARGETS = {_TARGET.name: _TARGET}
