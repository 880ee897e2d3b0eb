"""x86-64 laptops and servers: AVX2 with FMA, AVX-512, and what each has for int8 dot products."""

from __future__ import annotations

from dataclasses import replace

from .target import Target

TRIPLE = "x86_64-unknown-linux-gnu"
AVX2 = ("avx2", "fma", "f16c", "bmi2")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")

_AVX2 = Target("x86-64-avx2", TRIPLE, "x86-64-v3", AVX2, vector_bytes=32, registers=16, dot="pmaddwd", variant="avx2")
# -prefer-256-bit: LLVM holds back from zmm registers on some CPUs, and the templates ask for them on purpose
_AVX512 = Target(
    "x86-64-avx512", TRIPLE, "x86-64-v4", AVX512, vector_bytes=64, registers=32, l1_bytes=48 << 10, l2_bytes=1 << 20,
    attrs=("-prefer-256-bit",), dot="pmaddwd", variant="avx512",
)  # fmt: skip
_VNNI = replace(
    _AVX512, name="x86-64-avx512vnni", features=(*AVX512, "avx512_vnni"), dot="vpdpbusd", base=_AVX512.name,
    attrs=(*_AVX512.attrs, "+avx512vnni"), variant="avx512vnni",
)  # fmt: skip

TARGETS = {
    t.name: t
    for t in (
        _AVX2,
        replace(
            _AVX2, name="x86-64-avxvnni", features=(*AVX2, "avx_vnni"), attrs=("+avxvnni",), dot="vpdpbusd",
            base=_AVX2.name, variant="avxvnni",
        ),
        _AVX512,
        _VNNI,
        # tiles of 16 x 64 bytes; the runtime asks the kernel for them (see edgert/native). prefetchw is no more than a
        # hint, and does nothing where it is not known
        replace(
            _VNNI, name="x86-64-amx", features=(*_VNNI.features, "amx_tile", "amx_int8", "amx_bf16"), tiles="amx",
            variant="amx", attrs=(*_VNNI.attrs, "+amx-tile", "+amx-int8", "+amx-bf16", "+prfchw"),
        ),
    )
}  # fmt: skip
