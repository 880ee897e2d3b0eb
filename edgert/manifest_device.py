"""The manifest's entry `device`: the kernels of a graphics processor that a model's steps launch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgert.manifest import Tensor, _Item

ABI = 3  # of code that calls edgert_ctx.device
ALIGNMENT = 128  # of inputs and outputs behind the arena
MOST_WORKGROUP = 1024
_KERNEL = re.compile(r"k_[0-9a-f]{20}")


@dataclass(frozen=True)
class Launch:
    """One kernel launch. places: (memory, byte) of each buffer, memory 0 the arena with inputs and outputs behind it,
    1 the weights."""

    step: int
    kernel: str
    workgroup: int
    dims: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class DeviceCode:
    """member: that holds the kernels' source. io_at: where inputs and outputs lie behind the arena. bytes: of all."""

    member: str
    launches: tuple[Launch, ...]
    io_at: tuple[int, ...]
    bytes: int


def parse_device(
    item: _Item, steps: int, tensors: Sequence[Tensor], arena_bytes: int, weights_bytes: int
) -> DeviceCode:  # fmt: skip
    """Checks the entry. Raises ValueError naming what is wrong."""
    if item.key("api").text() != "opencl":
        raise item.key("api").fail("opencl")
    io_at, end = [], arena_bytes
    for tensor in tensors:
        io_at.append(-(-end // ALIGNMENT) * ALIGNMENT)
        end = io_at[-1] + tensor.bytes
    launches = []
    for launch in item.key("launches").items():
        places = []
        for place in launch.key("buffers").items():
            memory, index, at = place.items()
            kind = memory.text()
            if kind == "io":
                number = index.integer(0, len(tensors) - 1)
                places.append((0, io_at[number] + at.integer(0, tensors[number].bytes)))
            elif kind in ("arena", "weights"):
                places.append(
                    (int(kind == "weights"), at.integer(0, weights_bytes if kind == "weights" else arena_bytes))
                )
            else:
                raise memory.fail("arena, weights or io")
        launches.append(
            Launch(
                launch.key("step").integer(0, steps - 1), launch.key("kernel").matches(_KERNEL, "a kernel's name"),
                launch.key("workgroup").integer(1, MOST_WORKGROUP), launch.key("dims").integer(0, 1 << 10),
                tuple(places),
            )
        )  # fmt: skip
    if len({launch.step for launch in launches}) != len(launches):
        raise item.key("launches").fail("one launch a step")
    return DeviceCode(item.key("member").text(), tuple(launches), tuple(io_at), end)
