"""The arena over time as an SVG picture: steps to the right, bytes upwards, a box for each buffer."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgert.units import format_bytes

WIDTH, HEIGHT, MARGIN = 1200, 600, 60
LETTER, TEXT, SHORTEST = 6, 13, 4  # width of a letter, height of a line, letters from which a name is worth showing
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f")


def memory_svg(title: str, arena_bytes: int, plan: Sequence[Mapping[str, Any]], steps: int) -> str:
    """SVG text for `plan`, a manifest's list of buffers (name, offset, size, first, last), over `steps` steps.

    A box spans the steps in which its buffer is live, both included, and its bytes in the arena; pointing at it shows
    its name. A dashed line marks the arena's end, a second one the most that is live in any step.
    """
    across = (WIDTH - 2 * MARGIN) / max(1, steps)
    up = (HEIGHT - 2 * MARGIN) / max(1, arena_bytes)
    peak = max(live_bytes(plan, steps), default=0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="16">{escape(title)}</text>',
    ]
    for number, buffer in enumerate(plan):
        x, width = MARGIN + buffer["first"] * across, (buffer["last"] - buffer["first"] + 1) * across
        height = buffer["size"] * up
        y = HEIGHT - MARGIN - buffer["offset"] * up - height
        label = f"{buffer['name']}: {format_bytes(buffer['size'])} at {buffer['offset']}"
        life = f"steps {buffer['first']} to {buffer['last']}"
        box = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        fill = COLOURS[number % len(COLOURS)]
        tooltip = f"<title>{escape(label)}, {life}</title>"
        parts.append(
            f'<rect {box} fill="{fill}" fill-opacity="0.75" stroke="white" stroke-width="0.5">{tooltip}</rect>'
        )
        letters = int(width / LETTER)
        if letters >= SHORTEST and height >= TEXT:
            name = str(buffer["name"])
            name = name if len(name) <= letters else f"{name[: letters - 1]}…"
            at = f'x="{x + 3:.2f}" y="{y + TEXT - 3:.2f}"'
            parts.append(f'<text {at} font-size="{TEXT - 3}" pointer-events="none">{escape(name)}</text>')
    # The two lines often lie on each other: one label stands above, the other below.
    for text, level, shift in (("arena", arena_bytes, -6), ("most live at once", peak, 16)):
        y = HEIGHT - MARGIN - level * up
        parts.append(f'<path d="M{MARGIN} {y:.2f}H{WIDTH - MARGIN}" stroke="black" stroke-dasharray="6 4"/>')
        words = f"{text} {format_bytes(level)}"
        parts.append(f'<text x="{WIDTH - MARGIN}" y="{y + shift:.2f}" text-anchor="end">{words}</text>')
    parts.append(f'<text x="{MARGIN}" y="{HEIGHT - MARGIN + 20}">step 0</text>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 20}" text-anchor="end">step {steps - 1}</text>')
    return "\n".join([*parts, "</svg>", ""])


def memory_html(title: str, svg: str) -> str:
    """A page that shows the picture as wide as the window; pointing at a buffer shows its name, size and life."""
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n{svg}'


def live_bytes(plan: Sequence[Mapping[str, Any]], steps: int) -> list[int]:
    """Bytes live in each step."""
    change = [0] * (steps + 1)
    for buffer in plan:
        change[min(buffer["first"], steps)] += buffer["size"]
        change[min(buffer["last"] + 1, steps)] -= buffer["size"]
    live, total = [], 0
    for step in range(steps):
        total += change[step]
        live.append(total)
    return live
