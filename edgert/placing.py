"""Where a model for a microcontroller is to go: what `edgert compile` was told of the board and its memory."""

from __future__ import annotations

from dataclasses import dataclass

from edgert.errors import UsageError


@dataclass(frozen=True)
class Placing:
    """board: a name or a .toml file (None: the target's own). ram, flash: bytes that may be taken of its first regions.

    stack: bytes kept for it. weights_in: `flash`, mapped like code; `external`, read by blocks as they are used.
    optimize: `size` (one kernel for many layers) or `speed` (the fewest instructions for each); None: size.
    """

    board: str | None = None
    ram: int | None = None
    flash: int | None = None
    stack: int | None = None
    weights_in: str = "flash"
    optimize: str | None = None

    def for_machines(self) -> None:
        """Raises UsageError where something is set that only microcontrollers have."""
        for option, value in (
            ("--board", self.board),
            ("--flash", self.flash),
            ("--stack", self.stack),
            ("--optimize", self.optimize),
        ):
            if value is not None:
                raise UsageError(f"{option} is for microcontrollers: give --target as well, as in cortex-m4")
        if self.weights_in != "flash":
            raise UsageError("--weights-in is for microcontrollers: give --target as well, as in cortex-m4")
