"""A target with a graphics processor that OpenCL drives, beside the CPU that calls it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .target import Target

# types that every OpenCL 1.2 device computes with
ON_GPU = {"float32", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


@dataclass(frozen=True)
class Gpu(Target):
    """Kernels are OpenCL C; whatever has none runs on the CPU beside it, to which everything else here belongs.

    host: that CPU, whose templates are used there. workgroup: work items that run together. vector: elements that an
    item loads, computes and stores at once. tile: rows of a matrix product that an item computes.
    """

    family: str = "gpu"
    host: Target | None = None
    workgroup: int = 64
    vector: int = 4
    tile: int = 4


def beside(host: Target, name: str, **more: int) -> Gpu:
    """The target `name` of a graphics processor beside that CPU."""
    inherited = {f.name: getattr(host, f.name) for f in fields(Target) if f.name not in ("name", "family")}
    return Gpu(name, **inherited, host=host, **more)  # type: ignore[arg-type]


def cpu_of(target: Target) -> Target:
    """The CPU that runs what the graphics processor has no kernel for; a CPU itself."""
    return target.host if isinstance(target, Gpu) and target.host is not None else target
