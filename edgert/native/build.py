"""Compile the C runtime into libedgert.so with zig. Stands alone: the wheel's build hook loads it by its path."""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
LIBRARY = "libedgert.so"
SOURCES = (
    "runtime.c", "pool.c", "stream.c", "stays.c", "ring.c", "lookup.c", "chosen.c", "experts.c", "source.c", "digest.c",
    "mix.c", "predict.c",
)  # fmt: skip
OPENCL = ("opencl_api.c", "opencl.c", "opencl_run.c")
LIBRARY_ONLY = ("throttle.c", "reads.c", "coding.c", "coded.c", *OPENCL)  # not in programs of `--emit exe`
# glibc 2.17 is what manylinux2014 promises, so the wheel runs on any Linux of the last decade.
GLIBC = "2.17"
TARGETS = {"x86_64": f"x86_64-linux-gnu.{GLIBC}", "aarch64": f"aarch64-linux-gnu.{GLIBC}"}
CFLAGS = ("-std=c11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-fvisibility=default", "-fno-sanitize=undefined")


def zig_cc(arguments: list[str]) -> None:
    """Run `zig cc` with `arguments`. Raises RuntimeError with the compiler's words when it fails."""
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"zig cc failed ({done.returncode}): {done.stderr.strip()}")


def build_library(out: Path | None = None, machine: str | None = None) -> Path:
    """Build the runtime's shared library for `machine` (default: this one) at `out` (default: beside the sources).

    Raises RuntimeError when the machine is not known or the compiler fails. Replaces `out` in one step."""
    machine = machine or platform.machine()
    if machine not in TARGETS:
        raise RuntimeError(f"no target for machine {machine!r}; known: {', '.join(TARGETS)}")
    out = out or NATIVE / LIBRARY
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as folder:
        made = Path(folder) / LIBRARY
        sources = [str(NATIVE / name) for name in (*SOURCES, *LIBRARY_ONLY)]
        flags = ["-target", TARGETS[machine], *CFLAGS, "-shared", "-s", "-lpthread", "-ldl", f"-Wl,-soname,{LIBRARY}"]
        zig_cc([*flags, "-o", str(made), *sources])
        os.replace(made, out)
    return out


if __name__ == "__main__":
    print(build_library())
