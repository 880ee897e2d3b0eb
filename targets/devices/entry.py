"""A model's entry as machine code: straight-line, with one call for each step, so that steps can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .firmware import Firmware


def thumb_length(code: bytes, at: int) -> int:
    """Bytes of the Thumb instruction at `at` (Armv7-M ARM, A5.1)."""
    return 4 if code[at + 1] >> 3 in (0x1D, 0x1E, 0x1F) else 2


def riscv_length(code: bytes, at: int) -> int:
    """Bytes of the RISC-V instruction at `at` (unprivileged ISA, 1.5)."""
    return 4 if code[at] & 3 == 3 else 2


def thumb_call(code: bytes, at: int) -> bool:
    """Whether the instruction is BL or BLX (register)."""
    if thumb_length(code, at) == 2:
        return code[at + 1] == 0x47 and code[at] & 0x87 == 0x80
    return at + 4 <= len(code) and code[at + 1] >> 3 == 0x1E and code[at + 3] & 0xD0 == 0xD0


def riscv_call(code: bytes, at: int) -> bool:
    """Whether the instruction leaves its successor's address in ra."""
    word = int.from_bytes(code[at : at + 4], "little")
    if riscv_length(code, at) == 4:
        return word & 0x7F in (0x67, 0x6F) and word >> 7 & 31 == 1
    half = word & 0xFFFF
    return half & 0xE003 == 0x2001 or (half & 0xF07F == 0x9002 and half >> 7 & 31 != 0)


@dataclass(frozen=True)
class Encoding:
    """How instructions of an architecture read, and those of 2 and 4 bytes that do nothing."""

    length: Callable[[bytes, int], int]
    call: Callable[[bytes, int], bool]
    nothing: dict[int, bytes]


THUMB = Encoding(thumb_length, thumb_call, {2: b"\x00\xbf", 4: b"\xaf\xf3\x00\x80"})
RISCV = Encoding(riscv_length, riscv_call, {2: b"\x01\x00", 4: b"\x13\x00\x00\x00"})


def encoding_of(core: str) -> Encoding:
    """The encoding of a core's instructions."""
    return RISCV if core.startswith("riscv") else THUMB


@dataclass(frozen=True)
class Call:
    """A call of the entry: where it is from its start, its bytes, instructions from the call before to itself."""

    at: int
    length: int
    instructions: int


def calls_of(firmware: Firmware, name: str, encoding: Encoding) -> list[Call]:
    """The calls that the entry makes, in order."""
    code, found, at, count = firmware.bytes_at(*firmware.function(name)), [], 0, 0
    while at + 1 < len(code):
        length, count = encoding.length(code, at), count + 1
        if encoding.call(code, at):
            found.append(Call(at, length, count))
            count = 0
        at += length
    return found


def without_calls(firmware: Firmware, name: str, calls: list[Call], encoding: Encoding) -> bytes:
    """The firmware's file with these calls replaced by instructions that do nothing, as many."""
    code = firmware.bytes_at(*firmware.function(name))
    start, data = firmware.data.index(code), bytearray(firmware.data)
    for call in calls:
        data[start + call.at : start + call.at + call.length] = encoding.nothing[call.length]
    return bytes(data)
