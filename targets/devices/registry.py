"""Device URIs of simulated microcontrollers: `sim://cortex-m4`, in short `sim://m4`; `?by=qemu` names the simulator."""

from __future__ import annotations

from targets import all_targets
from targets.boards import Board, all_boards
from targets.errors import UsageError
from targets.microcontroller import Microcontroller

from .qemu import QemuSimulator
from .simulator import Simulator
from .unicorn import UnicornSimulator

SIMULATORS: tuple[Simulator, ...] = (UnicornSimulator(), QemuSimulator())  # the first that can is taken
SCHEME = "sim://"


def cores() -> dict[str, Microcontroller]:
    """Every core that there is, by name."""
    return {name: t for name, t in all_targets().items() if isinstance(t, Microcontroller)}


def core_of(uri: str) -> Microcontroller:
    """The core of a URI. Raises UsageError, naming the ones there are."""
    name = uri.removeprefix(SCHEME).partition("?")[0]
    known = cores()
    for full in (name, f"cortex-{name}", f"{name}imac"):
        if full in known:
            return known[full]
    raise UsageError(f"device {uri!r}: there is no such core; there are {', '.join(SCHEME + n for n in sorted(known))}")


def simulator_for(uri: str, board: Board) -> Simulator:
    """What runs that board. Raises UsageError saying why nothing does."""
    by = uri.partition("?by=")[2]
    reasons = []
    for simulator in SIMULATORS:
        if by in ("", simulator.name):
            reason = simulator.missing(board)
            if not reason:
                return simulator
            reasons.append(reason)
    raise UsageError(f"device {uri!r} cannot run {board.name}: {'; '.join(reasons) or f'no simulator is called {by}'}")


def board_of(core: Microcontroller) -> Board:
    """The board that firmware is for where none is named."""
    return all_boards()[core.board]
