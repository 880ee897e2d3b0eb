"""Cortex-M and 32-bit RISC-V in this process, by unicorn (pip): answers and an exact number of instructions.

Instructions are counted by basic blocks: a block that is entered runs to its end, whose length decoding it tells.
Predicated instructions in an IT block count, as in QEMU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from targets.boards import Board
from targets.errors import EdgertError

from .entry import RISCV, THUMB, Encoding, calls_of
from .semihosting import Semihosting
from .simulator import EXTERNAL, FLASH, SEMIHOSTING, Run, Task, no_stack, parse_reports

PAGE = 0x1000
SYSTEM = 0xE000E000  # the system control space of a Cortex-M, with SysTick
CORES = {
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0", "cortex-m3": "UC_CPU_ARM_CORTEX_M3", "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7", "cortex-m33": "UC_CPU_ARM_CORTEX_M33", "riscv32imac": "",
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """How unicorn runs one architecture: its registers, and how its instructions read."""

    stop: Any  # the register names of unicorn
    pc: int
    sp: int
    link: int
    argument: int
    block: int
    size: int  # the third argument of a call
    trap: bytes  # the instruction of a semihosting call
    encoding: Encoding
    thumb: int


def machine_of(core: str) -> tuple[Any, Machine]:
    """An engine for that core, and what is to be known of it."""
    import unicorn as uc

    if core == "riscv32imac":
        from unicorn import riscv_const as r

        engine = uc.Uc(uc.UC_ARCH_RISCV, uc.UC_MODE_RISCV32)
        return engine, Machine(
            uc, r.UC_RISCV_REG_PC, r.UC_RISCV_REG_SP, r.UC_RISCV_REG_RA,
            r.UC_RISCV_REG_A0, r.UC_RISCV_REG_A1, r.UC_RISCV_REG_A2,
            b"\x73\x00\x10\x00", RISCV, 0,
        )  # fmt: skip
    from unicorn import arm_const as a

    engine = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
    engine.ctl_set_cpu_model(getattr(a, CORES[core]))
    return engine, Machine(
        uc, a.UC_ARM_REG_PC, a.UC_ARM_REG_SP, a.UC_ARM_REG_LR, a.UC_ARM_REG_R0, a.UC_ARM_REG_R1, a.UC_ARM_REG_R2,
        b"\xab\xbe", THUMB, 1,
    )  # fmt: skip


class UnicornSimulator:
    """See the module."""

    name = "unicorn"

    def missing(self, board: Board) -> str:
        """Why not; empty where it can run the board."""
        if board.core not in CORES:
            return f"unicorn has no {board.core}"
        try:
            import elftools  # noqa: F401
            import unicorn  # noqa: F401
        except ModuleNotFoundError as error:
            return f"{error.name} is not installed: pip install 'edgert[mcu]'"
        return ""

    def run(self, task: Task) -> list[Run]:
        """A result per frame."""
        return _Session(task).run()


class _Session:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.engine, self.machine = machine_of(task.board.core)
        self._map(task.board)
        for address, data in task.firmware.segments:
            self.engine.mem_write(address, data)
        files = {SEMIHOSTING[0]: b"".join(task.frames), FLASH: task.firmware.notes.get(EXTERNAL, b"")}
        command = " ".join(("model", *SEMIHOSTING))
        self.host = Semihosting(
            lambda at, size: bytes(self.engine.mem_read(at, size)), self.engine.mem_write, command, files
        )
        self.lengths: dict[tuple[int, int], int] = {}
        self.count = 0
        self.entry, _ = task.firmware.function(task.entry)
        calls = calls_of(task.firmware, task.entry, self.machine.encoding)
        self.returns = frozenset(self.entry + call.at + call.length for call in calls)  # a step is done
        self.back = -1  # where the entry returns to, while it runs
        self.marks: list[int] = []
        self.calls: list[list[int]] = []
        self.fault = ""
        self.accesses = 0  # of memory, while the entry ran
        self.looked: list[int] = []  # of each run
        self.flash = _ExternalFlash(task)

    def _map(self, board: Board) -> None:
        mapped: set[int] = set()
        for region in board.regions:
            pages = {*range(region.origin // PAGE, -(-region.end // PAGE))} - mapped
            if pages:  # regions may share a page, which then the first brings
                self.engine.mem_map(min(pages) * PAGE, (max(pages) + 1 - min(pages)) * PAGE)
            mapped |= pages
        if self.machine.thumb:
            clock = {0x10: 7, 0x18: 1}  # SysTick runs; its ticks are not used, instructions are counted here
            self.engine.mmio_map(
                SYSTEM, PAGE, lambda u, at, size, d: clock.get(at, 0), None, lambda u, at, size, value, d: None, None
            )

    def _block(self, engine: Any, address: int, size: int, data: Any) -> None:
        before = self.count
        key = (address, size)
        if key not in self.lengths:
            self.lengths[key] = self._instructions(bytes(engine.mem_read(address, size)))
        self.count += self.lengths[key]
        self.flash.block(address, before, lambda: engine.reg_read(self.machine.size))
        if self.back < 0:
            if address == self.entry:
                self.back = engine.reg_read(self.machine.link) & ~self.machine.thumb
                self.marks = [before]
                self.flash.begin(before)
        elif address in self.returns:
            self.marks.append(before)
        elif address == self.back:
            self.calls.append([*self.marks, before])
            self.looked.append(self.accesses - sum(self.looked))
            self.flash.costs.append((self.flash.stalls, self.flash.bytes))
            self.back = -1

    def _instructions(self, code: bytes) -> int:
        at = count = 0
        while at < len(code):
            at, count = at + self.machine.encoding.length(code, at), count + 1
        return count

    def _interrupt(self, engine: Any, number: int, data: Any) -> None:
        pc = engine.reg_read(self.machine.pc)
        if bytes(engine.mem_read(pc, len(self.machine.trap))) != self.machine.trap:
            self.fault = f"exception {number} at {pc:#x}"
            engine.emu_stop()
            return
        result = self.host.call(engine.reg_read(self.machine.argument), engine.reg_read(self.machine.block))
        if self.host.code is not None:
            engine.emu_stop()
            return
        engine.reg_write(self.machine.argument, result & 0xFFFFFFFF)
        engine.reg_write(self.machine.pc, (pc + len(self.machine.trap)) | self.machine.thumb)

    def _access(self, engine: Any, kind: int, address: int, size: int, value: int, data: Any) -> None:
        self.accesses += self.back >= 0
        if address % size and not self.fault:
            self.fault = f"unaligned access of {size} bytes at {address:#x}, pc {engine.reg_read(self.machine.pc):#x}"
            engine.emu_stop()

    def run(self) -> list[Run]:
        engine, uc = self.engine, self.machine.stop
        engine.hook_add(uc.UC_HOOK_INTR, self._interrupt)
        engine.hook_add(uc.UC_HOOK_BLOCK, self._block)
        if self.task.check_alignment:
            engine.hook_add(uc.UC_HOOK_MEM_READ | uc.UC_HOOK_MEM_WRITE, self._access)
        start, _ = self.task.firmware.function("edgert_reset")
        if self.machine.thumb:
            engine.reg_write(self.machine.sp, self.task.firmware.symbols["edgert_stack_top"][0])
        at = start | self.machine.thumb
        while self.host.code is None and not self.fault:
            try:
                engine.emu_start(at, 0xFFFFFFFE)
            except uc.UcError as error:
                at = engine.reg_read(self.machine.pc)
                if error.errno != uc.UC_ERR_INSN_INVALID:
                    self.fault = self.fault or f"{error} at {at:#x}"
                else:  # what unicorn takes RISC-V's EBREAK for
                    self._interrupt(engine, 0, None)
                    at += len(self.machine.trap)
        low, _ = self.task.firmware.symbols.get("edgert_stack_low", (0, 0))
        if self.fault and self.back >= 0 and engine.reg_read(self.machine.sp) < low:
            raise EdgertError(no_stack(self.task.firmware))
        if self.fault or self.host.code:
            raise EdgertError(
                f"the firmware failed on {self.task.board.name}: {self.fault or f'exit code {self.host.code}'}"
            )
        reports = parse_reports(bytes(self.host.files.get(SEMIHOSTING[1], b"")), self.task)
        if len(self.calls) != len(reports):
            raise EdgertError(f"{self.task.entry} was called {len(self.calls)} times for {len(reports)} runs")
        runs = []
        costs = zip(self.calls, reports, self.flash.costs, self.looked, strict=True)
        for marks, (_, stack, arena, outputs), cost, accesses in costs:
            first, last = marks[0], marks[-1]
            # what the entry does before its first call counts for that, what it does after the last for the last
            ends = [*marks[1:-2], last] if len(marks) > 2 else [last]
            steps = [b - a for a, b in zip([first, *ends], ends, strict=False)]
            stalls, read = cost if self.flash.there else (None, 0)
            runs.append(Run(outputs, last - first, stack, arena, steps, stalls, read, accesses))
        return runs


class _ExternalFlash:
    """An external flash that gives so many bytes a cycle: what a run waits for, an instruction taken for a cycle."""

    def __init__(self, task: Task) -> None:
        symbols = task.firmware.symbols
        self.there = "edgert_flash_read" in symbols
        self.read, self.wait = (symbols.get(f"edgert_flash_{name}", (-1, 0))[0] & ~1 for name in ("read", "wait"))
        self.cycles_a_byte = task.board.clock_mhz / task.board.external_mb_s
        self.costs: list[tuple[int, int]] = []
        self.begin(0)

    def begin(self, now: int) -> None:
        """A run starts."""
        self.stalls, self.bytes, self.ready = 0, 0, float(now)

    def block(self, address: int, now: int, size: Callable[[], int]) -> None:
        """A block at `address` is entered after `now` instructions."""
        if address == self.read:
            self.bytes += size()
            self.ready = max(self.ready, now + self.stalls) + size() * self.cycles_a_byte
        elif address == self.wait:
            self.stalls += max(0, round(self.ready) - now - self.stalls)
