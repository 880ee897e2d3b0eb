"""The arena over time as an SVG picture, or as a page with tooltips: one plan, or before and after a budget."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from edgert.interface.plot_panel import BOTTOM, TOP, WIDTH, Panel, panel_svg

MARGIN = 40  # above the first panel, for the title
TALL, SHORT, TALLEST = 460, 150, 1400  # height of the fullest panel; of the other, at least; of the fullest, at most
FAR = 1.5  # a budget more than so many times the arena would only make the boxes small


def memory_svg(title: str, panels: Sequence[Panel], budget: int | None = None) -> str:
    """SVG text: `panels` one above the other on one scale of bytes, the budget (bytes) as a line in each
    where it is not far above all of them.

    A box spans the steps in which its buffer is live, both included, and its bytes in the arena; pointing at it shows
    its name, size and life.
    """
    if budget is not None and budget > FAR * max(panel.arena_bytes for panel in panels):
        budget = None
    tops = [max(1, panel.arena_bytes, budget or 0) for panel in panels]
    most, least = max(tops), min(tops)
    scale = min(TALLEST, max(TALL, SHORT * most / least)) / most  # pixels a byte, the same in all panels
    parts: list[str] = []
    y = float(MARGIN)
    for panel, top in zip(panels, tops, strict=True):
        y += TOP + top * scale
        parts += panel_svg(panel, y, scale, budget)
        y += BOTTOM
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{y:.0f}" fill="white"/>',
        f'<text x="20" y="28" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def memory_html(title: str, svg: str) -> str:
    """A page that shows the picture as wide as the window; pointing at a buffer shows its name, size and life."""
    page = files("edgert.interface").joinpath("plot_page.html").read_text(encoding="utf-8")
    return page.replace("{{title}}", escape(title)).replace("{{svg}}", svg)
