"""A model, the harness and a board's linker script to one bare-metal ELF file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compiler.codegen.c_names import identifiers
from compiler.codegen.link import math_library, zig
from compiler.program import Program
from targets.boards import Board
from targets.boards.script import linker_script
from targets.microcontroller import Microcontroller

from .budget import HARNESS_DATA
from .fit import check, roomy, uses
from .header import c_type, header

FIRMWARE = Path(__file__).parents[2] / "targets" / "firmware"
SOFT_FLOAT = ("fmaf.c", "requantize.c")  # what kernels call on cores without an FPU,
DSP = ("product_dsp.c", "product_dsp.S", "depthwise_dsp.c", "depthwise_dsp.S")  # and on those with DSP instructions
MANIFEST, GOLDEN, EXTERNAL = ".edgert.manifest", ".edgert.golden", ".edgert.external"  # sections beside what is loaded
START = {"thumb": "cortex_m.c", "riscv32": "riscv32.c"}
CFLAGS = (
    "-std=c11", "-Os", "-ffreestanding", "-fno-sanitize=undefined", "-ffunction-sections", "-fdata-sections",
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra", "-Werror",
    "-Wno-unused-command-line-argument",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A compiled model for a microcontroller, before it is linked. name: what C calls it; objects: by file name."""

    name: str
    manifest: Mapping[str, Any]
    target: Microcontroller
    objects: Mapping[str, bytes]
    weights: bytes
    program: Program
    golden: Mapping[str, np.ndarray] = field(default_factory=dict)  # by `in/NAME` and `out/NAME`

    @property
    def external(self) -> bool:
        """Whether its weights are read by blocks from a flash of their own."""
        return self.manifest.get("weights_in") == "external"

    def header(self) -> str:
        """NAME.h."""
        return header(self.manifest, self.name, self.target.alignment)


def model_io(model: Model) -> str:
    """What the harness knows of the model: buffers for its tensors and arena, and the call."""
    words = -(-model.manifest["arena_bytes"] // 4)
    lines = ["#include <stdint.h>", f'#include "{model.name}.h"', f"#define EDGERT_ARENA_WORDS {words}u"]
    lines.append(
        f'static uint32_t edgert_model_arena[{max(1, words)}] __attribute__((section(".edgert.arena"), aligned(16)));'
    )
    tables, calls = [], []
    for kind in ("inputs", "outputs"):
        ports, rows, members = model.manifest[kind], [], []
        for i, (port, member) in enumerate(zip(ports, identifiers(p["name"] for p in ports), strict=True)):
            buffer = f"edgert_{kind}_{i}"
            elements = f"{port['bytes']} / sizeof({c_type(port['dtype'])})"
            place = '__attribute__((section(".edgert.io"), aligned(16)))'
            if "offset" in port:
                buffer = f"(({c_type(port['dtype'])} *)((char *)edgert_model_arena + {port['offset']}))"
            else:
                lines.append(f"static {c_type(port['dtype'])} {buffer}[{elements}] {place};")
            rows.append(f"{{{buffer}, {port['bytes']}}}")
            members.append(f".{member} = {buffer}")
        tables.append(f"#define EDGERT_{kind.upper()} {len(rows)}u")
        table = f"static const struct {{ void *data; uint32_t bytes; }} edgert_model_{kind}[]"
        tables.append(f"{table} = {{{', '.join(rows) or '{0, 0}'}}};")
        calls.append(f"{model.name}_{kind} {kind} = {{{', '.join(members) or '0'}}};")
    lines += tables
    lines += [
        "static inline int32_t edgert_model_run(void) {",
        *(f"  {call}" for call in calls),
        f"  return {model.name}_run(&inputs, &outputs, edgert_model_arena);",
        "}",
    ]
    return "\n".join(lines) + "\n"


def machine_flags(target: Microcontroller) -> list[str]:
    """zig's flags for a core."""
    return ["-target", target.zig_target, f"-mcpu={target.zig_cpu}"]


def kernel_sources(target: Microcontroller) -> tuple[str, ...]:
    """The files of `FIRMWARE` that a core's kernels call."""
    return (() if target.fma else SOFT_FLOAT) + (DSP if target.fma and target.dot == "smlad" else ())


def write_parts(model: Model, folder: Path) -> list[str]:
    """Writes the model's objects, weights and header to `folder`; the names of what has to be linked."""
    for name, data in model.objects.items():
        (folder / f"{name}.o").write_bytes(data)
    (folder / f"{model.name}.h").write_text(model.header())
    (folder / "weights.bin").write_bytes(model.weights)
    if model.external:
        return [f"{name}.o" for name in model.objects]
    (folder / "weights.S").write_text(
        '.section .edgert.weights,"a",%progbits\n.balign 16\n'
        f'.globl {model.name}_weights\n{model.name}_weights:\n.incbin "weights.bin"\n'
    )
    return [*(f"{name}.o" for name in model.objects), "weights.S"]


def _about(model: Model, folder: Path) -> str:
    """What tools read of a firmware file and what never gets to the device: manifest, golden inputs and outputs."""
    (folder / "manifest.json").write_text(json.dumps(model.manifest))
    np.savez(folder / "golden.npz", allow_pickle=False, **model.golden)
    lines = []
    external = [(EXTERNAL, "weights.bin")] if model.external else []
    for section, file in ((MANIFEST, "manifest.json"), (GOLDEN, "golden.npz"), *external):
        lines += [f'.section {section},"",%progbits', f'.incbin "{file}"']
    (folder / "about.S").write_text("\n".join(lines) + "\n")
    return "about.S"


def link_firmware(model: Model, board: Board) -> bytes:
    """The ELF file. Raises DoesNotFit with what every region takes where one has too little."""
    elf = _link(model, roomy(board), _arena_region(model, board))  # for its sizes, whatever they are
    check(uses(elf, board), board, model.manifest)
    return elf


def _arena_region(model: Model, board: Board) -> str:
    """The first RAM region, with all else; where that is too small, another one that can hold the arena."""
    ports = [port for port in [*model.manifest["inputs"], *model.manifest["outputs"]] if "offset" not in port]
    beside = board.stack + HARNESS_DATA + sum(-(-port["bytes"] // 16) * 16 for port in ports)
    arena, (first, *others) = model.manifest["arena_bytes"], board.of_kind("ram")
    fitting = [first] if arena + beside <= first.length else [r for r in others if arena <= r.length]
    return (fitting or [first])[0].name


def content_flag(folder: Path) -> str:
    """A macro for compiling what lies in `folder`, another for other contents: zig keeps what it has compiled, and was
    seen to take an object made with another model's header while two of it ran at once."""
    seen = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        seen.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return f"-DEDGERT_CONTENT_{seen.hexdigest()}"


def _link(model: Model, board: Board, arena: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgert-") as name:
        folder = Path(name)
        parts = write_parts(model, folder)
        (folder / "model_io.h").write_text(model_io(model))
        (folder / "board.ld").write_text(linker_script(board, arena))
        parts.append(_about(model, folder))
        start = next(file for arch, file in START.items() if model.target.zig_target.startswith(arch))
        sources = [start, "main.c", *kernel_sources(model.target)]
        sources += ["external.c"] if model.external else []
        content = content_flag(folder)
        for source in (*sources, *(part for part in parts if part.endswith(".S"))):
            where = source if source in parts else str(FIRMWARE / source)
            zig("cc", *machine_flags(model.target), *CFLAGS, content, f"-I{FIRMWARE}", "-I.", "-c", where,
                "-o", f"{source}.o", cwd=folder)  # fmt: skip
        (folder / "libm.a").write_bytes(math_library(model.target))
        inputs = [part if part.endswith(".o") else f"{part}.o" for part in (*sources, *parts)]
        zig("ld.lld", "-T", "board.ld", "--gc-sections", "--strip-debug", "-z", "noexecstack", "-o", "firmware.elf",
            *inputs, "libm.a", cwd=folder)  # fmt: skip
        return (folder / "firmware.elf").read_bytes()
