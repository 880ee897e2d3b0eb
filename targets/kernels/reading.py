"""What a kernel says of how it reads constant operands, for weights that are brought in while the model runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stage import Const, Leaf


@dataclass(frozen=True, eq=False)
class Span:
    """Operand `leaf` is read front to back: unit i of a stage's tasks, counted from unit `first`, reads bytes
    [i * bytes, (i + 1) * bytes) of it and nothing else, and units beyond `units` read none."""

    leaf: Const
    first: int
    units: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Task i of a stage reads of table `leaf` only the row indices[i] (from the end where negative), of `extent`;
    `rows` of them lie together in `bytes` bytes.

    chosen: the indices, int32, ascend and those behind the last row are `extent`: such tasks read none. Only one thread
    runs the tasks, in order, and always the first; of a row's `bytes`, `used` are read. ahead: rows that the next such
    stage is likely to choose of its table, in the same form. ends: the indices, int32, end with `extent` as well, but
    nothing else of that holds."""

    leaf: Leaf
    indices: Leaf
    extent: int
    rows: int
    bytes: int
    chosen: bool = False
    used: int = 0
    ahead: Leaf | None = None
    ends: bool = False


@dataclass(eq=False)
class Reading:
    """units: the tasks are so many equal runs, one after the other, and spans say what those read (reach.py checks
    that); 0: no more is known than that any task may read all."""

    units: int = 0
    spans: list[Span] = field(default_factory=list)
    rows: Rows | None = None
    beside: Rows | None = None  # of a second table, whose rows the same indices name

    @property
    def tables(self) -> list[Rows]:
        """Those of which single rows are read."""
        return [rows for rows in (self.rows, self.beside) if rows is not None]

    def span(self, leaf: Const, units: int, size: int) -> None:
        """Says that run number i of `units` reads only bytes [i * size, (i + 1) * size) of `leaf`."""
        if units > 1:
            assert self.units in (0, units), f"{leaf.name}: {self.units} and {units} units"
            self.units = units
            self.spans.append(Span(leaf, 0, units, size))
