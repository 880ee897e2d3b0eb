"""RISC-V, 32 bits, with multiplication, atomics and compressed instructions; no FPU."""

from .microcontroller import Microcontroller

_TARGET = Microcontroller(
    "riscv32imac", "riscv32-unknown-none-elf", "generic-rv32", ("riscv32imac",), attrs=("+m", "+a", "+c"),
    abi="ilp32", zig_target="riscv32-freestanding-none", zig_cpu="generic_rv32+m+a+c", board="virt",
)  # fmt: skip

TARGETS = {_TARGET.name: _TARGET}
