"""What the machine at hand offers: its architecture, its processor's features, its memory, its cores."""

import os
import platform

_SAME = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def architecture() -> str:
    """The machine's architecture as the first part of an LLVM triple: x86_64, aarch64, ..."""
    machine = platform.machine().lower()
    return _SAME.get(machine, machine)


def triple_architecture(triple: str) -> str:
    """The architecture a triple names, spelled as `architecture` does."""
    first = triple.split("-")[0].lower()
    return _SAME.get(first, first)


def available_memory() -> int | None:
    """Bytes the kernel can give without swapping (MemAvailable), or None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def core_count() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1
