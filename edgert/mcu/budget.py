"""How much of a microcontroller's RAM is left for the arena."""

from __future__ import annotations

from collections.abc import Callable

from compiler.program import Program
from edgert.errors import DoesNotFit
from edgert.placing import Placing
from targets.boards import Board, get_board
from targets.errors import UsageError
from targets.microcontroller import Microcontroller
from targets.target import Target

HARNESS_DATA = 72  # bytes of .data and .bss that start-up and harness take


def board_for(target: Microcontroller, placing: Placing) -> Board:
    """The board that was named, or the target's own. Raises UsageError for one with another core."""
    board = get_board(placing.board or target.board)
    if board.core != target.name:
        raise UsageError(f"board {board.name} has a {board.core}: compile for that, with --target {board.core}")
    return board.limited(placing.ram, placing.flash, placing.stack)


def arena_budget(target: Target, placing: Placing) -> int | Callable[[Program], int] | None:
    """The bytes that an arena may take: `--ram`, less, on a microcontroller, all else that lies in RAM."""
    if not isinstance(target, Microcontroller) or placing.ram is None:
        return placing.ram
    board, ram = board_for(target, placing), placing.ram

    def left(program: Program) -> int:
        apart = [port for i, port in enumerate(program.inputs) if i not in program.inside]
        tensors = sum(-(-port.bytes // 16) * 16 for port in [*apart, *program.outputs])
        beside = board.stack + HARNESS_DATA + tensors
        if beside >= ram:
            raise DoesNotFit(
                f"does not fit: stack ({board.stack} bytes), inputs and outputs ({tensors}) and data ({HARNESS_DATA}) "
                f"alone take {beside} bytes, --ram gives {ram}",
                need=beside, have=ram,
            )  # fmt: skip
        return ram - beside

    return left
