"""A target without an operating system: what its compiler, linker and simulators have to know beside the code."""

from __future__ import annotations

from dataclasses import dataclass

from .target import Target

# short loops whose length is not known are not copied: code that does not pay
FEW_COPIES = ("-unroll-max-upperbound:uint=0", "-unroll-runtime:bool=0")


@dataclass(frozen=True)
class Microcontroller(Target):
    """One core. Models for it have static shapes, are called as `NAME_run(inputs, outputs, arena)`, on one thread.

    features: the core's own name, which no /proc/cpuinfo has. zig_target, zig_cpu: how zig calls it. float_abi: `hard`
    where floats are passed in registers. fma: whether a * b + c is one instruction. board: the one firmware is for
    where none is named. llvm_options: what LLVM is told, as on its command line, with types (TVM's `cl-opt`).
    """

    pointer_bytes: int = 4
    family: str = "mcu"
    vector_bytes: int = 8  # two sums a step of the portable templates, which have no use for fewer
    registers: int = 16
    l1_bytes: int = 1 << 30  # there is no cache to keep to
    l2_bytes: int = 1 << 30
    alignment: int = 4
    zig_target: str = ""
    zig_cpu: str = ""
    float_abi: str = ""
    fma: bool = False
    board: str = ""
    llvm_options: tuple[str, ...] = ()

    def tvm(self) -> dict:
        """The target as TVM takes it."""
        spec = super().tvm()
        spec["vector-width"] = 8 * max(8, self.vector_bytes)  # TVM warns where it has to guess
        if self.llvm_options:
            spec["cl-opt"] = list(self.llvm_options)
        if self.float_abi:
            spec["mfloat-abi"] = self.float_abi
        return spec


def cortex_m(name: str, triple: str, board: str, zig_cpu: str, **more: object) -> Microcontroller:
    """An Arm Cortex-M core; `hard` floats where the triple says so."""
    hard = triple.endswith("eabihf")
    return Microcontroller(
        name, triple, name, (name,), board=board, zig_cpu=zig_cpu, float_abi="hard" if hard else "soft",
        zig_target=f"thumb-freestanding-eabi{'hf' if hard else ''}", fma=hard, **more,  # type: ignore[arg-type]
    )  # fmt: skip
