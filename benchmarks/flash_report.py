"""The table and the picture of benchmarks/flash.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.readme import markdown

COLOURS = {"edgert": "#0b6e4f", "llama.cpp, mmap": "#c0392b", "naive": "#7f8c8d", "floor": "#2c3e50"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 360, 260, 48, 34, 30


@dataclass(frozen=True)
class Row:
    """What was measured at one budget (bytes; None: no limit); rates in tokens or runs a second, 0: did not run."""

    model: str
    budget: int | None
    weights: int
    bandwidth: float
    edgert: float
    predicted: float
    llama: float | None
    naive: float
    floor: float
    peak: int | None
    same: bool
    note: str


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    columns = ["model", "memory MiB", "edgert", "predicted", "llama.cpp, mmap", "naive", "floor", "of floor",
               "times llama.cpp", "times naive", "peak MiB", "disk GB/s", "same output"]  # fmt: skip
    cells = []
    for r in rows:
        ratio = [f"{r.edgert / other:.1f}" if other and r.edgert else "" for other in (r.llama, r.naive)]
        cells.append([
            r.model, "no limit" if r.budget is None else f"{r.budget / 2**20:.0f}", _rate(r.edgert, r.note),
            _rate(r.predicted) if r.predicted else "", "" if r.llama is None else _rate(r.llama, "killed"),
            _rate(r.naive, "killed"), _rate(r.floor), f"{100 * r.edgert / r.floor:.0f} %" if r.edgert else "", *ratio,
            "" if r.peak is None or r.budget is None else f"{r.peak / 2**20:.1f}", f"{r.bandwidth / 1e9:.2f}",
            "yes" if r.same else "no" if r.edgert else "",
        ])  # fmt: skip
    return markdown(columns, cells)


def _rate(value: float, otherwise: str = "") -> str:
    return f"{value:.3g}" if value else otherwise or "did not run"


def plot(rows: Sequence[Row]) -> str:
    """SVG: for each model, rates over budgets, both on logarithmic scales."""
    models = list(dict.fromkeys(row.model for row in rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(models)} {HEIGHT + 24}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH * len(models)}" height="{HEIGHT + 24}" fill="white"/>',
    ]
    for number, model in enumerate(models):
        chosen = sorted((r for r in rows if r.model == model and r.budget), key=lambda r: r.budget or 0)
        parts += _panel(model, chosen, WIDTH * number)
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = 20 + 150 * number
        parts.append(f'<rect x="{x}" y="{HEIGHT + 6}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{HEIGHT + 12}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(model: str, rows: Sequence[Row], x0: int) -> list[str]:
    lines: dict[str, list[tuple[int | None, float | None]]] = {
        "edgert": [(r.budget, r.edgert) for r in rows], "llama.cpp, mmap": [(r.budget, r.llama) for r in rows],
        "naive": [(r.budget, r.naive) for r in rows], "floor": [(r.budget, r.floor) for r in rows],
    }  # fmt: skip
    rates = [rate for line in lines.values() for _, rate in line if rate]
    budgets = [r.budget or 1 for r in rows]
    low, high = math.log(min(rates) / 1.3), math.log(max(rates) * 1.3)
    first, last = math.log(min(budgets) / 1.1), math.log(max(budgets) * 1.1)

    def x(budget: float) -> float:
        return x0 + LEFT + (math.log(budget) - first) / (last - first) * (WIDTH - LEFT - 12)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - (math.log(rate) - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    unit = "runs/s" if all(r.llama is None for r in rows) else "tokens/s"
    parts = [f'<text x="{x0 + LEFT}" y="18" font-weight="bold">{escape(model)}, {unit} over memory (MiB)</text>']
    for budget in budgets:
        parts.append(f'<text x="{x(budget):.0f}" y="{HEIGHT - 16}" text-anchor="middle">{budget >> 20}</text>')
    for exponent in range(math.floor(low / math.log(10)), math.ceil(high / math.log(10))):
        for mantissa in (1, 2, 5):
            rate = mantissa * 10.0**exponent
            if low <= math.log(rate) <= high:
                ends = f'x1="{x0 + LEFT}" x2="{x0 + WIDTH - 12}" y1="{y(rate):.1f}" y2="{y(rate):.1f}"'
                parts.append(f'<line {ends} stroke="#ddd"/>')
                parts.append(f'<text x="{x0 + LEFT - 5}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:g}</text>')
    for name, line in lines.items():
        points = [(x(budget or 1), y(rate)) for budget, rate in line if rate]
        dash = ' stroke-dasharray="4 3"' if name == "floor" else ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{COLOURS[name]}"/>' for a, b in points]
    return parts
