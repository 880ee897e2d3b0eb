"""One plan as part of a picture: steps to the right, bytes upwards, a box for each buffer, the peak marked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from edgert.interface.memory import Peak, live_bytes, peak_of
from edgert.interface.plot_text import LINE, fitting, spread, step_ticks
from edgert.units import format_bytes

WIDTH, LEFT, RIGHT = 1200, 76, 172  # of the picture; left and right of the boxes
TOP, BOTTOM = 34, 62  # above a panel's boxes, for its caption; below them, for steps and the peak
# Light, so that black names can be read on all of them.
COLOURS = ("#a6cee3", "#fdc98a", "#b2df8a", "#f7a9a8", "#cab2d6", "#f2e28c", "#9fd8cb", "#dcc0a3")
PEAK, BUDGET, LINES = "#c0392b", "#7b1fa2", "#333"


@dataclass(frozen=True)
class Panel:
    """A plan to draw. plan: a manifest's list of buffers (name, offset, size, first, last). steps: names of the
    kernel calls in order."""

    caption: str
    arena_bytes: int
    plan: Sequence[Mapping[str, Any]]
    steps: Sequence[str]


def panel_svg(panel: Panel, bottom: float, scale: float, budget: int | None) -> list[str]:
    """SVG elements of `panel`. bottom: where its byte 0 lies (y); scale: pixels a byte; budget: bytes, drawn as a line.

    Lines stand at the end of the arena, at the most that is live in any step (the peak) and at the budget.
    """
    across = (WIDTH - LEFT - RIGHT) / max(1, len(panel.steps))
    high = max(panel.arena_bytes, budget or 0) * scale
    peak = peak_of(live_bytes(panel.plan, len(panel.steps)))
    parts = [f'<text x="{LEFT}" y="{bottom - high - 14:.2f}" font-size="14">{escape(panel.caption)}</text>']
    parts += _byte_axis(bottom, scale, high)
    names: list[str] = []  # last, so that no line covers them
    for buffer, colour in zip(panel.plan, _colours(panel.plan), strict=True):
        place = _Place(
            LEFT + buffer["first"] * across,
            bottom - (buffer["offset"] + buffer["size"]) * scale,
            (buffer["last"] - buffer["first"] + 1) * across,
            buffer["size"] * scale,
        )
        parts += _box(buffer, place, colour)
        names += _name(str(buffer["name"]), format_bytes(buffer["size"]), place)
    parts += _step_axis(len(panel.steps), across, bottom)
    if peak:
        parts += _peak(panel, peak, across, bottom, high)
    levels = {"arena": panel.arena_bytes, "peak": peak.bytes if peak else panel.arena_bytes}
    if levels["peak"] == levels["arena"]:
        levels = {"arena = peak" if peak else "arena": panel.arena_bytes}
    if budget is not None:
        levels["budget"] = budget
    return [*parts, *_levels(levels, bottom, scale), *names]


class _Place(NamedTuple):
    """Where a box stands, in pixels; x and y of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


def _box(buffer: Mapping[str, Any], place: _Place, colour: str) -> Iterator[str]:
    size, life = format_bytes(buffer["size"]), f"steps {buffer['first']} to {buffer['last']}"
    told = f"{buffer['name']}: {size} at {buffer['offset']}, {life}"
    x, y, width, height = (f"{value:.2f}" for value in place)
    yield f'<rect class="buffer" x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}" stroke="white"'
    yield f' stroke-width="0.5"><title>{escape(told)}</title></rect>'


def _name(name: str, size: str, place: _Place) -> Iterator[str]:
    """The buffer's name in the middle of its box, and its size where there is room; upright in a narrow box."""
    x, y = place.x + place.width / 2, place.y + place.height / 2
    style = f'font-size="{LINE - 3}" text-anchor="middle" pointer-events="none"'
    level = fitting(name, place.width) if place.height >= LINE else ""
    upright = fitting(name, place.height) if place.width >= LINE else ""
    if len(upright) > len(level):
        at = f'x="{x + LINE / 4:.2f}" y="{y:.2f}" transform="rotate(-90 {x + LINE / 4:.2f} {y:.2f})"'
        yield f"<text {at} {style}>{escape(upright)}</text>"
    elif level:
        both = place.height >= 2 * LINE and fitting(size, place.width) == size
        y += LINE / 4  # from a line of text's middle to its foot
        yield f'<text x="{x:.2f}" y="{y - both * LINE / 2:.2f}" {style}>{escape(level)}</text>'
        if both:
            yield f'<text x="{x:.2f}" y="{y + LINE / 2:.2f}" {style} fill="#555">{size}</text>'


def _colours(plan: Sequence[Mapping[str, Any]]) -> list[str]:
    """A colour for each buffer, other than those of the buffers that touch it where there are enough."""
    chosen: list[int] = []
    for number, new in enumerate(plan):
        end = new["offset"] + new["size"]
        near = {
            chosen[i]
            for i, old in enumerate(plan[:number])
            if old["first"] <= new["last"] + 1
            and new["first"] <= old["last"] + 1
            and old["offset"] <= end
            and new["offset"] <= old["offset"] + old["size"]
        }
        turn = [(number + i) % len(COLOURS) for i in range(len(COLOURS))]
        chosen.append(next((c for c in turn if c not in near), turn[0]))
    return [COLOURS[c] for c in chosen]


def _byte_axis(bottom: float, scale: float, high: float) -> Iterator[str]:
    """A line for every so many bytes: the power of two that keeps them 40 pixels apart or more."""
    every = 1
    while every * scale < 40:
        every *= 2
    for level in range(0, int(high / scale) + 1, every):
        y = bottom - level * scale
        yield f'<path d="M{LEFT} {y:.2f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield (
            f'<text x="{LEFT - 6}" y="{y + 4:.2f}" font-size="11" fill="#555" text-anchor="end">'
            f"{format_bytes(level)}</text>"
        )


def _step_axis(steps: int, across: float, bottom: float) -> Iterator[str]:
    yield f'<path d="M{LEFT} {bottom:.2f}H{WIDTH - RIGHT}" stroke="{LINES}"/>'
    yield f'<text x="{LEFT - 6}" y="{bottom + 18:.2f}" font-size="11" fill="#555" text-anchor="end">step</text>'
    for step in step_ticks(steps, across):
        x = LEFT + (step + 0.5) * across
        yield f'<text x="{x:.2f}" y="{bottom + 18:.2f}" font-size="11" fill="#555" text-anchor="middle">{step}</text>'


def _peak(panel: Panel, peak: Peak, across: float, bottom: float, high: float) -> Iterator[str]:
    """The fullest step as a column, and its name below."""
    width = max(across, 2.0)
    x = LEFT + peak.step * across
    yield (
        f'<rect x="{x:.2f}" y="{bottom - high:.2f}" width="{width:.2f}" height="{high:.2f}" '
        f'fill="{PEAK}" fill-opacity="0.25" pointer-events="none"/>'
    )
    middle = x + width / 2
    yield f'<path d="M{middle:.2f} {bottom + 22:.2f}l5 9h-10z" fill="{PEAK}"/>'
    text = f"peak: {format_bytes(peak.bytes)} live in step {peak.step}, {panel.steps[peak.step]}"
    anchor, at = ("start", middle + 9) if middle < WIDTH / 2 else ("end", middle - 9)
    yield (
        f'<text x="{at:.2f}" y="{bottom + 33:.2f}" font-size="12" fill="{PEAK}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _levels(levels: Mapping[str, int], bottom: float, scale: float) -> Iterator[str]:
    """Lines across at `levels` (bytes by what they are), their names beside them without covering each other."""
    names = sorted(levels, key=lambda name: -levels[name])
    heights = [bottom - levels[name] * scale for name in names]
    for name, y, text_y in zip(names, heights, spread(heights, LINE + 2), strict=True):
        colour, line = _style(name)
        words = f"{name} {format_bytes(levels[name])}"
        yield f'<path d="M{LEFT} {y:.2f}H{WIDTH - RIGHT}" stroke="{colour}" {line} pointer-events="none"/>'
        yield f'<text x="{WIDTH - RIGHT + 6}" y="{text_y + 4:.2f}" font-size="12" fill="{colour}">{words}</text>'


def _style(name: str) -> tuple[str, str]:
    """The colour of a level, and how its line looks."""
    if name == "budget":
        return BUDGET, 'stroke-width="2"'
    return (PEAK, 'stroke-dasharray="2 3"') if name == "peak" else (LINES, 'stroke-dasharray="6 4"')
