"""Build the runner that needs no Python: one static program for a machine, kept by the hash of its sources."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.codegen.cache import cached
from edgert.errors import EdgertError, UsageError
from edgert.exe import DECODER_MAIN, MAIN, SHARED
from edgert.native.build import NATIVE, zig_cc

# Of each machine, as cpu.triple_architecture names it: zig's target, and flags.
MACHINES = {
    "x86_64": ("x86_64-linux-musl",),
    "aarch64": ("aarch64-linux-musl",),
    "armv7": ("arm-linux-musleabihf", "-mcpu=generic+v7a+neon"),
    "riscv64": ("riscv64-linux-musl",),
}
OPENING = (
    "archive.c", "json.c", "manifest.c", "manifest_stream.c", "elf.c", "opened.c", "variant.c", "coding.c", "coded.c",
)  # fmt: skip
SOURCES = ("runner_main.c", "device.c", *OPENING, *MAIN, *DECODER_MAIN, *SHARED)
COMMON = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}", "-fno-sanitize=undefined")
FLAGS = (*COMMON, "-static", "-fno-PIE", "-no-pie", "-s", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections",
         "-Wl,-z,noexecstack")  # fmt: skip

# The library for applications (app/edgert.h), for any Linux with glibc 2.17 or, on RISC-V, 2.27.
LIBRARIES = {
    "x86_64": ("x86_64-linux-gnu.2.17",),
    "aarch64": ("aarch64-linux-gnu.2.17",),
    "armv7": ("arm-linux-gnueabihf.2.17", "-mcpu=generic+v7a+neon"),
    "riscv64": ("riscv64-linux-gnu.2.27",),
}
LIBRARY_SOURCES = ("app.c", *OPENING, *(name for name in SHARED if name != "fail.c"))
LIBRARY_FLAGS = (*COMMON, "-shared", "-fPIC", "-fvisibility=hidden", "-s", "-lpthread", "-Wl,-soname,libedgert-run.so")
HEADER = NATIVE / "app" / "edgert.h"


def runner(machine: str) -> bytes:
    """The program for `machine`, an architecture. Raises UsageError for one that there is none for, or where ziglang is
    not installed."""
    return _cached(machine, MACHINES, SOURCES, FLAGS)


def library(machine: str) -> bytes:
    """The shared library for applications, likewise."""
    return _cached(machine, LIBRARIES, LIBRARY_SOURCES, LIBRARY_FLAGS)


def _cached(machine: str, machines: Mapping[str, Sequence[str]], sources: Sequence[str], flags: Sequence[str]) -> bytes:
    if machine not in machines:
        raise UsageError(f"there is no runner for {machine}, only for {', '.join(machines)}")
    words = ["-target", *machines[machine], *flags]
    files = [*sorted(NATIVE.rglob("*.h")), *(NATIVE / name for name in sources)]
    plain = [word for word in words if not word.startswith("-I")]
    text = "\0".join((*plain, *(file.read_text() for file in files)))
    try:
        return cached("runner", text, lambda: _compile(words, sources))
    except ModuleNotFoundError as error:
        raise UsageError(f"the runner is built with {error.name}: pip install 'edgert[compiler]'") from None


def _compile(words: Sequence[str], sources: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgert-") as folder:
        made = Path(folder) / "made"
        try:
            zig_cc([*words, "-o", str(made), *(str(NATIVE / name) for name in sources)])
        except RuntimeError as error:
            raise EdgertError("building the runner failed: " + " ".join(str(error).split())[:500]) from None
        return made.read_bytes()
