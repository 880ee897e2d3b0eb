"""The devices that artifacts can run on from here."""

import platform
from dataclasses import dataclass

from edgert import cpu
from edgert.errors import EdgertError, UsageError
from targets import host_features
from targets.devices import qemu_user
from targets.devices.registry import SCHEME, SIMULATORS, board_of, cores
from targets.microcontroller import Microcontroller


@dataclass(frozen=True)
class Device:
    """A device by its URI, with what it has; memory in bytes. missing: why it cannot be used, empty where it can."""

    uri: str
    name: str
    cores: int
    memory: int | None
    features: list[str]
    missing: str = ""


def devices() -> list[Device]:
    """All devices: this machine, emulated processors, and a simulated one for each microcontroller core."""
    here = Device("local", cpu_name(), cpu.core_count(), cpu.available_memory(), sorted(host_features()))
    emulated = (_emulated(machine) for machine in qemu_user.MACHINES)
    return [here, *_graphics(), *emulated, *map(_simulated, cores().values())]


def _graphics() -> list[Device]:
    """The OpenCL devices; a line that says why there is none."""
    from edgert.opencl import device

    try:
        found = [device.Device(number).info for number in range(device.device_count())]
        if not found:
            device.Device(0)
    except EdgertError as error:
        return [Device(f"{device.SCHEME}0", "OpenCL", 0, None, [], str(error).partition(": ")[2])]
    return [
        Device(f"{device.SCHEME}{n}", info.name, 1, info.memory_bytes, [info.version]) for n, info in enumerate(found)
    ]


def _emulated(machine: str) -> Device:
    title = f"Linux programs for {machine}, by QEMU's user mode"
    return Device(f"{qemu_user.SCHEME}{machine}", title, 1, None, [], qemu_user.QemuUser(machine).missing())


def _simulated(core: Microcontroller) -> Device:
    board = board_of(core)
    reasons = {simulator.name: simulator.missing(board) for simulator in SIMULATORS}
    able = [name for name, reason in reasons.items() if not reason]
    missing = "" if able else "; ".join(reasons.values())
    memory = sum(region.length for region in board.of_kind("ram"))
    return Device(f"{SCHEME}{core.name}", f"{board.title}, by {' or '.join(able) or 'none'}", 1, memory, [], missing)


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
    """Raise UsageError unless `uri` is this machine or one of `devices()`, which are looked for only then: a driver of
    graphics processors is a large library.
    """
    if uri == "local":
        return
    known = [device.uri for device in devices() if not device.missing]
    if uri not in known:
        raise UsageError(f"device {uri!r} is not available; there is {', '.join(known)}")
