"""Runs stages for 64-bit Arm under QEMU's user mode, in a program that reads their buffers and writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.codegen.jit import stage_arrays
from compiler.codegen.lower import compile_object, symbol
from edgert.native.build import zig_cc
from targets.devices.qemu_user import QemuUser
from targets.kernels.stage import Leaf, Stage
from targets.kernels.tensor import extent
from targets.target import Target

ALIGN = 64
CPUS = {
    "aarch64": "cortex-a53",
    "cortex-a53": "cortex-a53",
    "cortex-a76": "cortex-a76",
    "cortex-a76-fp16": "cortex-a76",
}
MAIN = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{prototypes}
int main(int count, char **words) {{
  char *at = aligned_alloc({align}, {size});
  FILE *file = fopen(words[1], "r+b");
  if (count != 2 || !at || !file || fread(at, 1, {size}, file) != {size}) return 1;
  {calls}
  rewind(file);
  return fwrite(at, 1, {size}, file) != {size} || fclose(file);
}}
"""


def device(target: Target) -> QemuUser:
    """A processor that has the target's features, and few others."""
    return QemuUser.of(f"qemu-user://aarch64?cpu={CPUS.get(target.name, 'max')}")


def run_emulated(
    stages: Sequence[Stage], feeds: Mapping[int, np.ndarray], outputs: Sequence[Leaf], target: Target,
    dims: Mapping[str, int] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """As compiler.codegen.jit's run_stages."""
    dims = dims or {}
    arrays = stage_arrays(stages, feeds, outputs, dims)
    places, size = {}, 0
    for key, array in arrays.items():
        places[key] = size
        size += -(-max(1, array.nbytes) // ALIGN) * ALIGN
    prototypes, calls = [], []
    for stage in stages:
        name = symbol(stage, target)
        scalars = [dims[var.name] for var in stage.dims] + [0, extent(stage.tasks, dims)]
        kinds = ["void *"] * len(stage.operands) + ["int64_t"] * len(scalars)
        prototypes.append(f"void {name}({', '.join(kinds)});")
        calls.append(
            f"{name}({', '.join([*(f'at + {places[id(leaf)]}' for leaf in stage.operands), *map(str, scalars)])});"
        )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "main.c").write_text(
            MAIN.format(prototypes="\n".join(prototypes), calls="\n  ".join(calls), align=ALIGN, size=size)
        )
        objects = {symbol(stage, target): compile_object(stage, target) for stage in stages}
        for name, data in objects.items():
            (folder / f"{name}.o").write_bytes(data)
        files = [str(folder / name) for name in ("main.c", *(f"{name}.o" for name in objects))]
        zig_cc(["-target", "aarch64-linux-musl", "-static", "-O1", *files, "-lm", "-o", str(folder / "program")])
        image = np.zeros(size, np.uint8)
        for key, array in arrays.items():
            image[places[key] : places[key] + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        image.tofile(folder / "buffers")
        code, _, errors = device(target).run(str(folder / "program"), [str(folder / "buffers")])
        assert code == 0, errors
        image = np.fromfile(folder / "buffers", np.uint8)
    for leaf in outputs:
        array = arrays[id(leaf)]
        start = places[id(leaf)]
        array[...] = image[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    return [arrays[id(leaf)] for leaf in outputs]
