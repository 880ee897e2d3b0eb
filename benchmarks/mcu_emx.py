"""emx-onnx-cgen (pip) on a simulated core: its C, compiled by arm-none-eabi-gcc -O2, in this project's harness."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import onnx

from edgert.errors import EdgertError
from edgert.interface.bench import random_inputs
from edgert.mcu.firmware import FIRMWARE
from edgert.mcu.fit import roomy
from targets.boards import get_board
from targets.boards.script import linker_script
from targets.devices.firmware import Firmware
from targets.devices.registry import cores, simulator_for
from targets.devices.simulator import Task

FLAGS = {
    "cortex-m3": ["-mcpu=cortex-m3"],
    "cortex-m4": ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"],
    "cortex-m7": ["-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"],
}
STACK = 3 << 20  # it keeps everything there


@dataclass(frozen=True)
class Cost:
    """Bytes, and instructions of one run."""

    instructions: int
    code_bytes: int
    weights_bytes: int
    ram_bytes: int


def able(core: str) -> bool:
    """Whether it can be built for that core here."""
    there = find_spec("emx_onnx_cgen") is not None and shutil.which("arm-none-eabi-gcc") is not None
    return there and core in FLAGS


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgertError(f"{command[0]}: {' '.join(done.stderr.split())[-300:]}")


def measured(path: Path, core: str, folder: Path) -> Cost:
    """What one run of the model at `path` costs. Raises EdgertError where it cannot be built or run."""
    thresholds = ["--large-temp-threshold", "0", "--large-weight-threshold", str(1 << 30)]
    program = str(Path(sys.executable).with_name("emx-onnx-cgen"))
    _call([program, "compile", str(path), "emx.c", "--model-name", "model", *thresholds], folder)
    graph = onnx.load(path).graph
    manifest = {}
    for kind, values in (("inputs", graph.input), ("outputs", graph.output)):
        manifest[kind] = [_port(value) for value in values]
    (folder / "model_io.h").write_text(_io(manifest, (folder / "emx.c").read_text()))
    board = replace(roomy(get_board(cores()[core].board)), stack=STACK)
    (folder / "board.ld").write_text(linker_script(board))
    flags = [*FLAGS[core], "-mthumb", "-O2", "-ffunction-sections", "-fdata-sections", "-I.", f"-I{FIRMWARE}"]
    sources = ["emx.c", str(FIRMWARE / "cortex_m.c"), str(FIRMWARE / "main.c")]
    _call(["arm-none-eabi-gcc", *flags, *sources, "-nostartfiles", "--specs=nosys.specs", "-Wl,-T,board.ld",
           "-Wl,--gc-sections", "-lm", "-o", "emx.elf"], folder)  # fmt: skip
    firmware = Firmware.read((folder / "emx.elf").read_bytes())
    inputs = random_inputs(manifest)
    frame = b"".join(inputs[port["name"]].tobytes() for port in manifest["inputs"])
    sizes = sum(port["bytes"] for port in manifest["outputs"])
    task = Task(firmware, board, "model", [frame], sizes)
    (run,) = simulator_for(f"sim://{core}", board).run(task)
    weights = sum(size for name, (_, size) in firmware.symbols.items() if name.startswith(("weight", "initializer")))
    section = {name: size for name, (_, size) in firmware.sections.items()}
    code = sum(section.get(name, 0) for name in (".vectors", ".text", ".rodata", ".ARM.exidx", ".data")) - weights
    ram = section.get(".data", 0) + section.get(".bss", 0) + section.get(".io", 0) + run.stack_bytes
    return Cost(run.instructions, code, weights, ram)


def _port(value: onnx.ValueInfoProto) -> dict:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    count = 4
    for size in shape:
        count *= size
    return {"name": value.name, "dtype": "float32", "shape": shape, "bytes": count}


def _io(manifest: dict, source: str) -> str:
    """model_io.h of the harness for a function `model(inputs..., outputs...)`."""
    (signature,) = re.findall(r"^void model\(([^)]*)\)\s*\{", source, re.M)
    kinds = [re.sub(r"\s*\w+((\[\d+\])+)$", r" (*)\1", part.strip()) for part in signature.split(",")]
    lines, arguments = ["#include <stdint.h>", f"void model({signature});"], []
    for kind in ("inputs", "outputs"):
        rows = []
        for i, port in enumerate(manifest[kind]):
            lines.append(f'static float {kind}_{i}[{port["bytes"] // 4}] __attribute__((section(".edgert.io")));')
            rows.append(f"{{{kind}_{i}, {port['bytes']}}}")
            arguments.append(f"(void *){kind}_{i}")
        lines.append(f"#define EDGERT_{kind.upper()} {len(rows)}u")
        table = f"static const struct {{ void *data; uint32_t bytes; }} edgert_model_{kind}[]"
        lines.append(f"{table} = {{{', '.join(rows)}}};")
    assert len(kinds) == len(arguments)
    call = f"model({', '.join(arguments)})"
    lines += ["#define EDGERT_ARENA_WORDS 0u", "static uint32_t edgert_model_arena[1];"]
    lines.append(f"static inline int32_t edgert_model_run(void) {{ {call}; return 0; }}")
    return "\n".join(lines) + "\n"
