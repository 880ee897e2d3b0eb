"""Any OpenCL 1.2 device of a laptop or desktop, PoCL among them."""

from __future__ import annotations

from .gpu import beside
from .x86_64 import TARGETS as X86

TARGETS = beside(X86["x86-64-avx2"], "opencl")
