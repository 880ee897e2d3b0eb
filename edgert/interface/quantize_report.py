"""The report of `edgert quantize` as one HTML file that needs nothing else: a plot (SVG) and a table of all layers."""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from edgert.units import format_bytes

if TYPE_CHECKING:
    from edgert.interface.quantize import QuantizeResult
    from quant.report import LayerReport

WIDTH, NAMES, ROW, TOP = (
    1100,
    380,
    18,
    34,
)  # of the plot, in pixels: all, the names' column, a layer, the scale's labels
OWN, ALONE = "#4e79a7", "#e15759"
STYLE = """
body{font:14px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:2em auto;max-width:1160px;padding:0 1em}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}table{border-collapse:collapse;width:100%}
th,td{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child,.l{text-align:left}td.l{max-width:26em;overflow:hidden;text-overflow:ellipsis}
.wide{overflow-x:auto}.bad{color:#b3261e}
"""


def report_html(result: "QuantizeResult", model: str) -> str:
    """The whole page for the model called `model`; `result` has its layers measured."""
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(model)}: {escape(result.scheme)}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(model)} quantized: {escape(result.scheme)}</h1>",
        _summary(result),
        f"<h2>{_ranking(result)}</h2>",
        f'<div class="wide">{layers_svg(result.layers)}</div>',
        "<h2>Every quantized layer</h2>",
        f'<div class="wide">{_layers(result.layers)}</div>',
    ]
    if result.raised:
        parts += ["<h2>Raised to a better scheme to meet the bound</h2>", _reasons(result.raised)]
    raised = {(layer["layer"], layer["reason"]) for layer in result.raised}
    kept = [layer for layer in result.kept if (layer["layer"], layer["reason"]) not in raised]
    if kept:
        parts += ["<h2>Left in float32</h2>", _reasons(kept)]
    return "\n".join([*parts, "</body></html>", ""])


def layers_svg(layers: "Sequence[LayerReport]") -> str:
    """Two bars a layer in the order given: the SQNR of its own output, and of the model's with it alone quantized."""
    values = [value for layer in layers for value in (layer.sqnr_db, layer.alone_db) if value is not None]
    finite = [value for value in values if math.isfinite(value)]
    most = 10 * math.ceil(max([*finite, 10.0]) / 10)
    height = TOP + ROW * len(layers) + 10
    across = (WIDTH - NAMES - 60) / most
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" font-size="11">']
    parts.append(f'<text x="4" y="14" fill="{ALONE}">dB of the model’s output, this layer alone quantized</text>')
    parts.append(f'<text x="4" y="28" fill="{OWN}">dB of the layer’s own output, all quantized</text>')
    for mark in range(0, most + 1, 10):
        x = NAMES + mark * across
        parts.append(f'<path d="M{x:.1f} {TOP - 6}V{height - 6}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 10}" text-anchor="middle">{mark}</text>')
    for i, layer in enumerate(layers):
        y = TOP + i * ROW
        name = layer.layer if len(layer.layer) <= 58 else f"…{layer.layer[-57:]}"
        parts.append(f'<text x="4" y="{y + 11}">{escape(name)}<title>{escape(layer.layer)}</title></text>')
        for value, colour, shift in ((layer.alone_db, ALONE, 0), (layer.sqnr_db, OWN, 7)):
            if value is not None:
                width = max(0.0, min(value, most)) * across
                title = f"<title>{escape(layer.layer)}: {_db(value)} dB</title>"
                box = f'x="{NAMES}" y="{y + 1 + shift}" width="{width:.1f}" height="6"'
                parts.append(f'<rect {box} fill="{colour}">{title}</rect>')
        shown = layer.sqnr_db if layer.alone_db is None else layer.alone_db
        end = NAMES + max(0.0, min(shown, most)) * across
        parts.append(f'<text x="{end + 4:.1f}" y="{y + 11}">{_db(shown)}</text>')
    return "\n".join([*parts, "</svg>"])


def _summary(result: "QuantizeResult") -> str:
    rows = [("constants", f"{format_bytes(result.bytes_before)} → {format_bytes(result.bytes_after)}")]
    rows.append(("layers", ", ".join(f"{escape(name)} {count}" for name, count in result.schemes.items()) or "none"))
    if (quality := result.quality) is not None:
        drop = f"{quality.before:.4f} → {quality.after:.4f} (lost {100 * quality.drop:.3g} %)"
        rows.append((escape(quality.metric), drop))
        rows.append(("output against float32", f"SQNR {_db(quality.sqnr_db)} dB, mean cosine {quality.cosine:.5f}"))
        if quality.agreement is not None:
            rows.append(("same top-1 as float32", f"{100 * quality.agreement:.1f} %"))
        rows.append(("measured on", f"{quality.samples} samples of {escape(str(result.measured_on))}"))
    if result.check is not None:
        rows.append((f"compiled, beside ONNX Runtime on {result.check.samples} samples", result.check.told()))
    body = "".join(f'<tr><th>{name}</th><td class="l">{value}</td></tr>' for name, value in rows)
    return f"<table>{body}</table>"


def _ranking(result: "QuantizeResult") -> str:
    if result.ranked_by == "alone_db":
        return "Layers by the harm each does alone, the most harmful first"
    return "Layers by the SQNR of their own output, the lowest first (harm alone was not measured)"


def _layers(layers: "Sequence[LayerReport]") -> str:
    heads = ["layer", "operator", "scheme", "alone dB", "SQNR dB", "cosine", "float32 range", "codes used", "clipped"]
    heads += ["bytes float32", "bytes quantized"]
    rows = []
    for layer in layers:
        cells = [
            f'<td class="l" title="{escape(layer.layer)}">{escape(layer.layer)}</td>',
            f"<td>{escape(layer.op)}</td><td>{escape(layer.scheme)}</td>",
            f"<td>{'' if layer.alone_db is None else _db(layer.alone_db)}</td>",
            f"<td>{_db(layer.sqnr_db)}</td><td>{layer.cosine:.5f}</td>",
            f"<td>{layer.low:.4g} to {layer.high:.4g}</td>",
            f"<td>{_percent(layer.range_used)}</td><td>{_percent(layer.clipped)}</td>",
            f"<td>{layer.bytes_before}</td><td>{layer.bytes_after}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _reasons(layers: Sequence[dict[str, str]]) -> str:
    rows = ""
    for layer in layers:
        name = escape(layer["layer"])
        rows += f'<tr><td class="l" title="{name}">{name}</td><td>{escape(layer["op"])}</td>'
        rows += f'<td>{escape(layer.get("scheme", "float32"))}</td><td class="l">{escape(layer["reason"])}</td></tr>'
    return f"<table><tr><th>layer</th><th>operator</th><th>now</th><th>why</th></tr>{rows}</table>"


def _db(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "exact" if value > 0 else "lost"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
