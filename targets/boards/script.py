"""The linker script of a firmware for a board."""

from __future__ import annotations

from . import Board

_TEMPLATE = """/* {title} */
MEMORY {{
{memory}
}}
ENTRY(edgert_reset)
SECTIONS {{
  .vectors : {{ KEEP(*(.vectors)) }} > {flash}
  .text : {{ *(.text .text.*) }} > {flash}
  .rodata : {{ *(.rodata .rodata.* .srodata .srodata.*) . = ALIGN(4); }} > {flash}
  .ARM.exidx : {{ *(.ARM.exidx .ARM.exidx.*) }} > {flash}
  .weights : ALIGN(16) {{ *(.edgert.weights) . = ALIGN(4); }} > {flash}
  edgert_data_load = LOADADDR(.data);
  .data : {{
    edgert_data_start = .;
    *(.data .data.* .sdata .sdata.*) . = ALIGN(4);
    edgert_data_end = .;
  }} > {ram} AT > {flash}
  __global_pointer$ = ADDR(.data) + 0x800;
  .bss (NOLOAD) : {{
    edgert_bss_start = .;
    *(.sbss .sbss.* .bss .bss.* COMMON) . = ALIGN(4);
    edgert_bss_end = .;
  }} > {ram}
  .io (NOLOAD) : ALIGN(16) {{ *(.edgert.io) }} > {ram}
  .stack (NOLOAD) : ALIGN(16) {{
    edgert_stack_low = .;
    . += {stack};
    edgert_stack_top = .;
  }} > {ram}
  .arena (NOLOAD) : ALIGN(16) {{ *(.edgert.arena) }} > {arena}
  /DISCARD/ : {{ *(.ARM.extab*) *(.ARM.attributes.*) *(.eh_frame*) *(.comment) *(.note*) }}
}}
"""


def linker_script(board: Board, arena: str | None = None) -> str:
    """The script: code, then weights, in the first flash region; data, stack, arena in the first RAM region.

    arena: the RAM region for the arena where it is another one.
    """
    flags = {"flash": "rx", "ram": "rwx"}
    memory = "\n".join(
        f"  {r.name} ({flags[r.kind]}) : ORIGIN = {r.origin:#010x}, LENGTH = {r.length:#x}" for r in board.regions
    )
    flash, ram = board.of_kind("flash")[0].name, board.of_kind("ram")[0].name
    return _TEMPLATE.format(
        title=board.title, memory=memory, flash=flash, ram=ram, arena=arena or ram, stack=board.stack
    )
