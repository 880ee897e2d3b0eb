"""A firmware file as a simulator loads it: what goes where in memory, and where its functions are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from targets.errors import EdgertError


@dataclass(frozen=True)
class Firmware:
    """A bare-metal ELF file. segments: (address, bytes) to load; symbols: name -> (address, size)."""

    data: bytes
    segments: tuple[tuple[int, bytes], ...]
    symbols: dict[str, tuple[int, int]]
    sections: dict[str, tuple[int, int]]  # name -> (address, size) of what takes memory
    notes: dict[str, bytes]  # sections of the file that do not get to the device

    @classmethod
    def read(cls, data: bytes) -> Firmware:
        """Raises EdgertError for what is no ELF file."""
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        try:
            elf = ELFFile(io.BytesIO(data))
            segments = tuple(
                (s["p_paddr"], s.data()) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
            )
            table: Any = elf.get_section_by_name(".symtab")
            symbols = {s.name: (s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name} if table else {}
            sections = {s.name: (s["sh_addr"], s["sh_size"]) for s in elf.iter_sections() if s["sh_flags"] & 2}
            notes = {
                s.name: s.data() for s in elf.iter_sections() if s.name.startswith(".edgert") and not s["sh_flags"] & 2
            }
        except (ELFError, KeyError, ValueError) as error:
            raise EdgertError(f"the firmware is not an ELF file that can be read: {error}") from None
        return cls(data, segments, symbols, sections, notes)

    def function(self, name: str) -> tuple[int, int]:
        """Address (without Thumb's lowest bit) and size. Raises EdgertError where there is none of that name."""
        if name not in self.symbols:
            raise EdgertError(f"the firmware has no function {name}")
        at, size = self.symbols[name]
        return at & ~1, size

    def bytes_at(self, address: int, size: int) -> bytes:
        """What is loaded there."""
        for at, data in self.segments:
            if at <= address and address + size <= at + len(data):
                return data[address - at : address - at + size]
        raise EdgertError(f"the firmware has nothing at {address:#x}")
