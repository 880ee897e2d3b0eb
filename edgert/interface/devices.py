"""The devices that artifacts can run on from here."""

import platform
from dataclasses import dataclass

from edgert import cpu
from edgert.errors import UsageError
from targets import host_features


@dataclass(frozen=True)
class Device:
    """A device by its URI, with what it has; memory in bytes."""

    uri: str
    name: str
    cores: int
    memory: int | None
    features: list[str]


def devices() -> list[Device]:
    """All devices at hand: this machine."""
    return [Device("local", cpu_name(), cpu.core_count(), cpu.available_memory(), sorted(host_features()))]


def cpu_name() -> str:
    """The processor's name as the kernel tells it, or its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def check_device(uri: str) -> None:
    """Raise UsageError unless `uri` is one of `devices()`."""
    known = [device.uri for device in devices()]
    if uri not in known:
        raise UsageError(f"device {uri!r} is not available; there is {', '.join(known)}")
