"""Results that lie over the operand they are made from, shifted: on one thread, for kernels that work front to back."""

from __future__ import annotations

from collections.abc import Iterable

from targets.dtypes import item_size
from targets.microcontroller import Microcontroller
from targets.target import Target

from .stage import Leaf, Slide, Stage


def on_one_thread(target: Target) -> bool:
    """Whether the target's kernels always run in order: then sliding costs nothing."""
    return isinstance(target, Microcontroller)


def let_slide(
    stage: Stage, read: Leaf, written: Leaf, pieces: Iterable[tuple[int, int]], target: Target
) -> Stage:  # fmt: skip
    """Says that the operand `read` may lie from some byte of `written` on.

    pieces: of each piece of the work, in order, the elements of `written` that are filled when it is done, and the
    first element of `read` that it or a later one reads. Within a piece nothing is promised about the order.
    """
    if not on_one_thread(target):
        return stage
    of_read, of_written = (next(i for i, leaf in enumerate(stage.operands) if leaf is w) for w in (read, written))
    sizes = item_size(read.dtype), item_size(written.dtype)
    lead = max(filled * sizes[1] - first * sizes[0] for filled, first in pieces)
    stage.slide = Slide(of_read, of_written, max(0, -(-lead // target.alignment) * target.alignment))
    return stage
