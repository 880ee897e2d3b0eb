"""64-bit Arm with Linux: phones, boards, servers. Features are named as in the kernel's list of HWCAPs.

Those named -fp16 multiply in half precision: weights of products are float16, what meets them is rounded to it, and
sums of 64 products at most are float16 before they are added up in float32. All else is float32.
"""

from __future__ import annotations

from dataclasses import replace

from .target import HALF_FROM, Target

# fmt: off
_BASE = Target(
    "aarch64", "aarch64-unknown-linux-gnu", "generic", ("fp", "asimd"), vector_bytes=16, registers=32, dot="smull",
)
_A53 = replace(_BASE, name="cortex-a53", cpu="cortex-a53", base=_BASE.name)
_A76 = replace(
    _BASE, name="cortex-a76", cpu="cortex-a76", features=(*_BASE.features, "fphp", "asimdhp", "asimddp"),
    l1_bytes=64 << 10, dot="sdot", base=_BASE.name, variant="dotprod",
)
_X2 = replace(
    # without SVE, whose registers the templates do not ask for
    _A76, name="cortex-x2", cpu="cortex-x2", features=(*_A76.features, "i8mm"), attrs=("-sve", "-sve2"),
    l2_bytes=1 << 20, dot="usdot", variant="i8mm",
)
# fmt: on

# under Linux
_M1 = replace(_A76, name="apple-m1", cpu="apple-m1", l1_bytes=128 << 10, l2_bytes=12 << 20, variant="")
_HALF = (replace(t, name=f"{t.name}-fp16", half=HALF_FROM, base="", variant="") for t in (_A76, _X2))

TARGETS = {t.name: t for t in (_BASE, _A53, _A76, _X2, _M1, *_HALF)}
