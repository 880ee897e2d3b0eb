"""64-bit RISC-V with Linux: boards with the general-purpose extensions (RV64GC) and no vectors."""

from .target import Target

_TARGET = Target(
    # two floats a step of the portable templates: tiles of 16 fill the 32 registers there are
    "riscv64", "riscv64-unknown-linux-gnu", "sifive-u74", ("f", "d", "c"), vector_bytes=8, registers=16, abi="lp64d",
)  # fmt: skip

TARGETS = {_TARGET.name: _TARGET}
