"""A model as C: the entry and the weights as source, the kernels as a library of objects."""

from __future__ import annotations

from pathlib import Path

from compiler.codegen.c_names import identifiers
from compiler.codegen.lower import symbol
from compiler.program import Buffer

from .firmware import Model
from .library import archive, write_external

_WEIGHTS = """/* The weights of {name}, in order of use. Generated: do not edit. */
#include "{name}.h"

#if defined(__GNUC__)
__attribute__((section(".edgert.weights"), aligned(16)))
#endif
const uint8_t {name}_weights[] = {{
{rows}
}};
"""


def entry_source(model: Model) -> str:
    """NAME_run in C: every kernel in turn at its planned addresses."""
    name, program = model.name, model.program
    inputs, outputs = (identifiers(port.name for port in ports) for ports in (program.inputs, program.outputs))
    kernels: dict[str, int] = {}
    calls = []

    def address(buffer: Buffer) -> str:
        root, at = buffer.root()
        if root.space == "io":
            written = root.index >= len(inputs)
            member = outputs[root.index - len(inputs)] if written else inputs[root.index]
            base = f"(uint8_t *)outputs->{member}" if written else f"(const uint8_t *)inputs->{member}"
            return f"{base} + {at}" if at else base
        return f"{'memory' if buffer.space == 'arena' else f'{name}_weights'} + {buffer.offset}"

    def reads(number: int) -> list[str]:
        loads = program.steps[number].loads if number < len(program.steps) else []
        return [f"  edgert_flash_read({r.weight.offset}u, {address(r.buffer)}, {r.weight.bytes}u);" for r in loads]

    def wait(number: int) -> list[str]:
        return ["  edgert_flash_wait();"] if reads(number) else []

    # what a step needs of an external flash is read while the step ahead of it runs
    calls += [*reads(0), *wait(0)]
    for number, step in enumerate(program.steps):
        calls += reads(number + 1)
        kernel = symbol(step.stage, model.target)
        kernels[kernel] = len(step.buffers)
        calls.append(f"  /* {step.name.replace('*/', '')}: {step.stage.kernel} */")
        calls.append(f"  {kernel}({', '.join(address(buffer) for buffer in step.buffers)});")
        calls += wait(number + 1)
    lines = [
        f"/* The entry of {name}. Generated: do not edit. */",
        f'#include "{name}.h"',
        *(['#include "edgert_flash.h"'] if model.external else []),
        "",
        "/* Kernels read and write through these pointers; which is which stands in the calls below. */",
        *(f"void {kernel}({', '.join(['const void *'] * count)});" for kernel, count in kernels.items()),
        "",
        f"int32_t {name}_run(const {name}_inputs *inputs, {name}_outputs *outputs, void *arena) {{",
        "  uint8_t *memory = (uint8_t *)arena;",
        "  (void)inputs, (void)outputs, (void)memory;",
        *calls,
        "  return 0;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def weights_source(model: Model) -> str:
    """The weights as an array."""
    data = model.weights or b"\0"
    rows = (", ".join(map(str, data[at : at + 24])) for at in range(0, len(data), 24))
    return _WEIGHTS.format(name=model.name, rows=",\n".join(rows))


def write_source(model: Model, folder: Path) -> None:
    """NAME.h, NAME.c, libNAME_kernels.a and the weights: NAME_weights.c, or NAME_weights.bin for an external flash."""
    (folder / f"{model.name}.h").write_text(model.header())
    (folder / f"{model.name}.c").write_text(entry_source(model))
    if model.external:
        write_external(model, folder)
    else:
        (folder / f"{model.name}_weights.c").write_text(weights_source(model))
    (folder / f"lib{model.name}_kernels.a").write_bytes(archive(model, "entry.", "weights."))
