"""What a library holds: no heap, no files, no double precision, nothing that is written but the stack and the arena."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from capstone import CS_ARCH_ARM, CS_ARCH_RISCV, CS_MODE_MCLASS, CS_MODE_RISCV32, CS_MODE_RISCVC, CS_MODE_THUMB, Cs
from elftools.elf.elffile import ELFFile

import edgert
from targets.devices.registry import cores

# what kernels may leave to the compiler's runtime: integer division, single-precision arithmetic, moving bytes
RUNTIME = re.compile(
    r"__aeabi_(u?idiv(mod)?|u?ldivmod|lmul|l[a-z]{3}|f[a-z0-9]+|i2f|ui2f|l2f|ul2f|f2iz|f2uiz|mem\w+|unwind_cpp_pr\d)"
    r"|__(add|sub|mul|div|neg|float|fix)\w*sf\w*|__\w+sf2|__floatsisf|__fixsfsi|__(u?div|u?mod|mul)[sd]i3"
    r"|memcpy|memset|memmove|fmaf"
)
DOUBLE = re.compile(r"__aeabi_(d[a-z]+\w*|[a-z0-9]*2d|f2d)$|__\w*df\w*$")
FORBIDDEN = re.compile(r"malloc|calloc|realloc|free|printf|puts|fopen|fwrite|exit|abort")


def objects(library: Path, folder: Path) -> list[ELFFile]:
    subprocess.run([sys.executable, "-m", "ziglang", "ar", "x", str(library.resolve())], cwd=folder, check=True)
    return [ELFFile(io.BytesIO(path.read_bytes())) for path in sorted(folder.glob("*.o"))]


@pytest.mark.parametrize("core", sorted(cores()))
def test_what_the_objects_need_and_hold(core: str, tiny: Path, tmp_path: Path) -> None:
    edgert.compile(tiny, tmp_path / "lib", target=core, emit="lib", golden=False)
    (tmp_path / "objects").mkdir()
    files = objects(tmp_path / "lib" / "libtiny.a", tmp_path / "objects")
    assert len(files) > 5
    tables = [list(f.get_section_by_name(".symtab").iter_symbols()) for f in files]
    defined = {s.name for table in tables for s in table if s["st_shndx"] != "SHN_UNDEF" and s.name}
    needed = {s.name for table in tables for s in table if s["st_shndx"] == "SHN_UNDEF" and s.name} - defined
    assert {"tiny_run", "tiny_weights"} <= defined
    assert [name for name in needed if not RUNTIME.fullmatch(name)] == []
    assert [name for name in needed | defined if DOUBLE.match(name) or FORBIDDEN.search(name)] == []
    for file in files:
        for section in file.iter_sections():
            writable = section["sh_flags"] & 1 and section["sh_flags"] & 2
            assert not (writable and section["sh_size"]), section.name
        assert [text for text in disassembly(file, core) if re.search(r"\bf64|\.d\b", text)] == []


def disassembly(file: ELFFile, core: str) -> list[str]:
    """Mnemonics of everything in .text; constants between functions come along as whatever they look like."""
    if core == "riscv32imac":
        engine = Cs(CS_ARCH_RISCV, CS_MODE_RISCV32 | CS_MODE_RISCVC)
    else:
        engine = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    found = []
    for section in file.iter_sections():
        if section["sh_flags"] & 4 and section["sh_size"]:
            found += [instruction.mnemonic for instruction in engine.disasm(section.data(), 0)]
    return found


@pytest.mark.parametrize(
    ("name", "double"),
    [
        ("__aeabi_dmul", True),
        ("__aeabi_f2d", True),
        ("__muldf3", True),
        ("__aeabi_fmul", False),
        ("__aeabi_idiv", False),
        ("__mulsf3", False),
    ],
)
def test_the_pattern_knows_double_precision(name: str, double: bool) -> None:
    assert bool(DOUBLE.match(name)) == double
