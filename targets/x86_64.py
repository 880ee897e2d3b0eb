"""x86-64 laptops and servers: AVX2 with FMA, and AVX-512."""

from __future__ import annotations

from .target import Target

TRIPLE = "x86_64-unknown-linux-gnu"
AVX2 = ("avx2", "fma", "f16c", "bmi2")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")

# -prefer-256-bit: LLVM holds back from zmm registers on some CPUs, and the templates ask for them on purpose
TARGETS = {
    "x86-64-avx2": Target("x86-64-avx2", TRIPLE, "x86-64-v3", AVX2, vector_bytes=32, registers=16),
    "x86-64-avx512": Target(
        "x86-64-avx512", TRIPLE, "x86-64-v4", AVX512, vector_bytes=64, registers=32, l1_bytes=48 << 10,
        l2_bytes=1 << 20, attrs=("-prefer-256-bit",),
    ),
}  # fmt: skip
