"""Model code from a shared object to assembler source, so that a static program can hold the very same bytes.

Linking the original objects again would let the program's own C library supply functions the code brings along
(expf, memcpy), and answers could differ. Here every byte of the shared object's segments is kept, at the same distance
from one another, and only the pointers that a dynamic linker would fill in are resolved by the static linker.
Source: System V ABI, chapters 4 and 5 (ELF-64)."""

from __future__ import annotations

import struct

from edgert.errors import EdgertError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_DYNAMIC = struct.Struct("<QQ")
_LOAD, _DYN, _RELRO = 1, 2, 0x6474E552
_WRITE = 2
# For each machine: its ELF number and the one relocation freestanding code may have, "base plus addend".
MACHINES = {"x86_64": (62, 8), "aarch64": (183, 1027)}
_STRTAB, _SYMTAB, _RELA_AT, _RELA_SIZE, _JMPREL, _RELR = 5, 6, 7, 8, 23, 36
_NEEDED = 1
MOST_IMAGE = 1 << 30


class _Image:
    """A shared object's segments by virtual address."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        header = _HEADER.unpack_from(data, 0)
        if header[0][:6] != b"\x7fELF\x02\x01" or header[1] != 3:
            raise ValueError("it is not a 64-bit little-endian shared object")
        self.machine = header[2]
        programs = [_PROGRAM.unpack_from(data, header[5] + i * _PROGRAM.size) for i in range(header[10])]
        self.loads = sorted((p for p in programs if p[0] == _LOAD), key=lambda p: p[3])
        if not self.loads or self.loads[0][3] >= 4096:
            raise ValueError("its first segment does not start at address 0")
        self.size = max(p[3] + p[6] for p in self.loads)
        if self.size > MOST_IMAGE or any(p[5] > p[6] or p[2] + p[5] > len(data) for p in self.loads):
            raise ValueError("its segments are damaged")
        relro = [(p[3], p[3] + p[6]) for p in programs if p[0] == _RELRO]
        for p in self.loads:
            sealed = any(low <= p[3] and p[3] + p[6] <= high for low, high in relro)
            if p[1] & _WRITE and not sealed and not self._reserved(p, programs):
                raise ValueError("it has data that it writes to, which a shared, read-only image cannot hold")
        tables = [(p[2], p[5]) for p in programs if p[0] == _DYN]
        self.dynamic: dict[int, int] = {}
        for at, size in tables:
            for offset in range(at, at + size, _DYNAMIC.size):
                tag, value = _DYNAMIC.unpack_from(data, offset)
                self.dynamic.setdefault(tag, value)

    def _reserved(self, load: tuple[int, ...], programs: list[tuple[int, ...]]) -> bool:
        """Whether a segment is only the three words that are kept for lazy binding, which nothing here uses."""
        if load[5] != 24 or load[6] != 24:
            return False
        first, *rest = struct.unpack_from("<QQQ", self.data, load[2])
        return rest == [0, 0] and first in (0, *(p[3] for p in programs if p[0] == _DYN))

    def offset(self, address: int) -> int:
        """Where in the file the byte for `address` is."""
        for p in self.loads:
            if p[3] <= address < p[3] + p[5]:
                return int(p[2] + address - p[3])
        raise ValueError(f"address {address:#x} is in no segment")

    def symbol(self, name: str) -> int:
        """The address of a defined symbol."""
        at, names = self.offset(self.dynamic[_SYMTAB]), self.offset(self.dynamic[_STRTAB])
        wanted = name.encode() + b"\0"
        # The dynamic symbol table has no length of its own; the string table follows it in every linker's output.
        while at + _SYMBOL.size <= len(self.data) and at < names:
            string, _, _, section, value, _ = _SYMBOL.unpack_from(self.data, at)
            if section and self.data[names + string : names + string + len(wanted)] == wanted:
                return int(value)
            at += _SYMBOL.size
        raise ValueError(f"it does not define {name}")

    def relocations(self, relative: int) -> dict[int, int]:
        """Address -> addend of every pointer to fill in."""
        if any(tag in self.dynamic for tag in (_NEEDED, _JMPREL, _RELR)):
            raise ValueError("it is not freestanding")
        found: dict[int, int] = {}
        start, size = self.dynamic.get(_RELA_AT, 0), self.dynamic.get(_RELA_SIZE, 0)
        for address in range(start, start + size, _RELA.size):
            where, info, addend = _RELA.unpack_from(self.data, self.offset(address))
            if info != relative or not 0 <= addend <= self.size:
                raise ValueError("it needs a symbol from elsewhere")
            found[where] = addend
        return found


def assemble(code: memoryview, code_file: str, entry: str, machine: str) -> str:
    """GNU assembler source that defines `entry` with the code of the shared object `code`, whose bytes it takes from
    the file named `code_file`. Raises EdgertError when `code` is not freestanding code for `machine`."""
    try:
        if machine not in MACHINES:
            known = " and ".join(MACHINES)
            raise ValueError(
                f"no programs are made for {machine}, only for {known}: compile an artifact, for `edgert runner`"
            )
        number, relative = MACHINES[machine]
        image = _Image(code)
        if image.machine != number:
            raise ValueError(f"it is not for {machine}")
        pointers = sorted(image.relocations(relative).items())
        start = image.symbol(entry)
    except (ValueError, KeyError, struct.error) as error:
        raise EdgertError(f"the model code cannot become a program: {error}") from None
    lines = ['.section .edgert_code,"ax",@progbits', ".balign 4096", ".Limage:"]
    at = 0
    for load in image.loads:
        lines.append(f".zero {load[3] - at}")
        at, end = load[3], load[3] + load[5]
        for where, addend in pointers:
            if at <= where < end:
                lines += [_bytes(code_file, image.offset(at), where - at), f".quad .Limage+{addend}"]
                at = where + 8
        lines += [_bytes(code_file, image.offset(at), end - at)] if at < end else []
        at = end
    lines += [f".zero {image.size - at}", f".globl {entry}", f".type {entry},@function", f"{entry} = .Limage+{start}"]
    return "\n".join(lines) + '\n.section .note.GNU-stack,"",@progbits\n'


def _bytes(file: str, offset: int, count: int) -> str:
    return f'.incbin "{file}",{offset},{count}' if count else ""
