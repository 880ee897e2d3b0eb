"""Arm's and RISC-V's semihosting, as far as the harness uses it, over the memory of a simulated machine."""

from __future__ import annotations

import struct
from collections.abc import Callable

OPEN, CLOSE, WRITE0, WRITE, READ, SEEK = 1, 2, 4, 5, 6, 10
COMMAND_LINE, EXIT, EXIT_EXTENDED = 0x15, 0x18, 0x20


class Semihosting:
    """Files are byte strings in this process: `files` by name. `code`: how the program left, None while it runs."""

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        write: Callable[[int, bytes], None],
        command: str,
        files: dict[str, bytes],
    ) -> None:
        self._read, self._write, self.command = read, write, command
        self.files = {name: bytearray(data) for name, data in files.items()}
        self._open: list[tuple[bytearray, list[int]]] = []
        self.code: int | None = None
        self.text = ""

    def call(self, operation: int, block: int) -> int:
        """Does what the program asked for; the number it gets back."""

        def words(count: int) -> tuple[int, ...]:
            return struct.unpack(f"<{count}I", self._read(block, 4 * count))

        if operation == OPEN:
            name, mode, size = words(3)
            text = self._read(name, size).decode()
            if mode >= 4:
                self.files[text] = bytearray()
            if text not in self.files:
                return 0xFFFFFFFF
            self._open.append((self.files[text], [0]))
            return len(self._open)
        if operation in (READ, WRITE):
            handle, at, size = words(3)
            data, place = self._open[handle - 1]
            if operation == WRITE:
                data += self._read(at, size)
                return 0
            given = bytes(data[place[0] : place[0] + size])
            place[0] += len(given)
            self._write(at, given)
            return size - len(given)
        if operation == SEEK:
            handle, at = words(2)
            self._open[handle - 1][1][0] = at
            return 0
        if operation == COMMAND_LINE:
            at, room = words(2)
            line = self.command.encode() + b"\0"
            if len(line) > room:
                return 0xFFFFFFFF
            self._write(at, line)
            self._write(block + 4, struct.pack("<I", len(line) - 1))
            return 0
        if operation == CLOSE:
            return 0
        if operation == WRITE0:
            self.text += self._read(block, 256).split(b"\0")[0].decode(errors="replace")
            return 0
        if operation == EXIT_EXTENDED:
            self.code = words(2)[1]
            return 0
        if operation == EXIT:
            self.code = 0 if block == 0x20026 else 99
            return 0
        return 0xFFFFFFFF
