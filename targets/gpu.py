"""A target with a graphics processor that OpenCL drives, beside the CPU that calls it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, fields, replace

from .target import HALF_FROM, Target

# types that every OpenCL 1.2 device computes with; integers below a byte are bytes to it
ON_GPU = frozenset({"float32", "bool", *(f"{s}int{bits}" for s in ("", "u") for bits in (2, 4, 8, 16, 32, 64))})


@dataclass(frozen=True)
class Gpu(Target):
    """Kernels are OpenCL C; whatever has none runs on the CPU beside it, to which everything else here belongs.

    host: that CPU, whose templates are used there. workgroup: work items that run together. vector: elements that an
    item loads, computes and stores at once. tile: rows of a matrix product that an item computes. half: weights and
    values between kernels of at least so many elements are float16 in memory, computed with in float32; 0: none are.
    api: whose language kernels are written in; but for OpenCL they are given out as source, and all must be kernels.
    types: that kernels compute with. whole: names of values and weights in the model's file that stay float32.
    """

    family: str = "gpu"
    host: Target | None = None
    workgroup: int = 64
    vector: int = 4
    tile: int = 4
    api: str = "opencl"
    types: frozenset[str] = ON_GPU
    whole: frozenset[str] = field(default=frozenset(), repr=False)  # of no account for a kernel that is the same

    @property
    def source_only(self) -> bool:
        """Whether nothing here runs what is compiled for it."""
        return self.api != "opencl"

    def stores_half(self, name: str, elements: int) -> bool:
        """Whether so many float32 elements of a value or weight of that name are stored as float16."""
        return self.halves(elements) and stem_in(name, self.whole) is None


def stem_in(name: str, known: Container[str]) -> str | None:
    """The one of `known` that a value of the compiler is or comes from: it numbers and rearranges copies."""
    while name not in known:
        name = name.rpartition(".")[0]
        if not name:
            return None
    return name


def beside(host: Target, name: str, **more: int) -> dict[str, Gpu]:
    """The target `name` of a graphics processor beside that CPU, and `name-fp16`, which stores in half precision."""
    inherited = {f.name: getattr(host, f.name) for f in fields(Target) if f.name not in ("name", "family")}
    made = Gpu(name, **inherited, host=host, **more)  # type: ignore[arg-type]
    return {t.name: t for t in (made, replace(made, name=f"{name}-fp16", half=HALF_FROM))}


def cpu_of(target: Target) -> Target:
    """The CPU that runs what the graphics processor has no kernel for; a CPU itself."""
    return target.host if isinstance(target, Gpu) and target.host is not None else target
