"""Instructions of 64-bit Arm that load and store vectors."""

from __future__ import annotations

from collections.abc import Iterator


def pair(register: int, pointer: str) -> str:
    """One instruction that fills two registers and moves the pointer on."""
    return f"ldp q{register}, q{register + 1}, [{pointer}], #32"


def quad(register: int, count: int, pointer: str) -> str:
    """One instruction that fills up to four registers."""
    names = ", ".join(f"v{register + i}.16b" for i in range(count))
    return f"ld1 {{{names}}}, [{pointer}], #{16 * count}"


def memory(pair: str, single: str, registers: list[int]) -> Iterator[str]:
    """Registers to or from sums that lie end to end, by the instruction for two and that for one."""
    for place in range(0, len(registers) - 1, 2):
        yield f"{pair} q{registers[place]}, q{registers[place + 1]}, [$0, #{place * 16}]"
    if len(registers) % 2:
        yield f"{single} q{registers[-1]}, [$0, #{(len(registers) - 1) * 16}]"
