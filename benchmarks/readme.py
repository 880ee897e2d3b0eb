"""Put a measured table into README.md, between its markers."""

import os
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column leans left, the others right."""
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)], *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def replace_between(text: str, marker: str, content: str) -> str:
    """`text` with what stands between `<!-- MARKER:begin -->` and `<!-- MARKER:end -->` replaced by `content`.

    Raises ValueError where the markers are missing or in the wrong order.
    """
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"no pair of markers {begin} and {end}")
    head, tail = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    return f"{head}\n{content.strip()}\n{tail}"


def marked(marker: str, content: str) -> str:
    """`content` between its markers, for `update` to replace it alone later."""
    return f"<!-- {marker}:begin -->\n{content.strip()}\n<!-- {marker}:end -->\n"


def update(marker: str, content: str, path: Path = README) -> None:
    """Replace the part of `path` between the markers, whole or not at all."""
    text = replace_between(path.read_text(encoding="utf-8"), marker, content)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
