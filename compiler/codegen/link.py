"""Objects to a freestanding shared object: no imported symbol, only the entry exported."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from targets.microcontroller import Microcontroller
from targets.target import Target

from .cache import cached

ZIG_MACHINES = {"armv7": "arm-freestanding-eabihf"}  # where zig's name is not the triple's first part
MATH = Path(__file__).with_name("math.zig")


class LinkError(RuntimeError):
    """The linker refused, or a kernel calls something that no freestanding library has."""


def zig(*arguments: str, cwd: Path) -> str:
    """Runs zig (from the ziglang package), gives what it prints. Raises LinkError with its first lines otherwise."""
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"zig {arguments[0]}: " + " ".join(done.stderr.split("\n")[:4]))
    return done.stdout


def math_library(target: Target) -> bytes:
    """The static library of math.zig and compiler_rt for `target`. Built once, then cached."""
    first = target.triple.split("-")[0]
    machine, cpu = ZIG_MACHINES.get(first, f"{first}-freestanding"), target.cpu.replace("-", "_")
    kind = ["-O", "ReleaseFast", "-fPIC"]
    if isinstance(target, Microcontroller):
        machine, cpu, kind = target.zig_target, target.zig_cpu, ["-O", "ReleaseSmall"]

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            zig("build-lib", str(MATH), *kind, "-fcompiler-rt", "-ffunction-sections",
                "-fstrip", "-target", machine, "-mcpu", cpu, "--name", "m",
                cwd=Path(folder))  # fmt: skip
            return Path(folder, "libm.a").read_bytes()

    return cached("math", f"{target}\0{MATH.read_text()}", make)


def link_shared(objects: Mapping[str, bytes], target: Target, *exports: str) -> bytes:
    """Links object files (by name) into one shared object that exports `exports`.

    Raises LinkError when a symbol stays undefined.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in objects.items():
            folder.joinpath(file + ".o").write_bytes(data)
        folder.joinpath("libm.a").write_bytes(math_library(target))
        folder.joinpath("exports").write_text(f"{{ global: {'; '.join(exports)}; local: *; }};")
        names = [file + ".o" for file in objects]
        folder.joinpath("inputs").write_text("\n".join(names))
        zig("ld.lld", "-shared", "--gc-sections", "-s", "--no-undefined", "--version-script=exports",
            "-z", "noexecstack", "-z", "now", "-z", "separate-loadable-segments",
            "--hash-style=gnu", "-o", "code", "@inputs", "libm.a",
            cwd=folder)  # fmt: skip
        return folder.joinpath("code").read_bytes()
