"""Where the words of a picture go: names cut to their room, labels apart from each other, numbers along an axis."""

from collections.abc import Iterator, Sequence

LETTER, LINE, FEWEST = 5.6, 13, 5  # width of a letter and height of a line (10 px type), letters worth showing


def fitting(name: str, room: float) -> str:
    """`name`, or as much of its end as `room` pixels take: names of tensors begin alike. Empty where that says little.

    A short name stands whole or not at all.
    """
    letters = int((room - 4) / LETTER)
    if len(name) <= letters:
        return name
    return "…" + name[1 - letters :].lstrip("./_:-") if letters >= FEWEST else ""


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """`heights` (pixels, from the top down) moved down where need be, so that each is `apart` below the one before."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + apart) if placed else height)
    return placed


def step_ticks(steps: int, across: float) -> Iterator[int]:
    """The steps to number: every 1st, 2nd, 5th, 10th, ... so that they are 30 pixels apart or more.

    across: pixels a step.
    """
    every = next(factor * 10**power for power in range(12) for factor in (1, 2, 5) if factor * 10**power * across >= 30)
    yield from range(0, steps, every)
