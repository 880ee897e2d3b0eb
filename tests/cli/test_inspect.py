"""inspect on an artifact, and the picture of its arena."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from edgert.interface.plot import live_bytes, memory_svg
from tests.cli.conftest import Edgert, assert_one_line
from tests.edgert import fake_artifact


def test_an_artifact_is_described(edgert: Edgert, fake: Path) -> None:
    result = edgert("inspect", fake)
    assert result.exit_code == 0, result.stderr
    assert "input   x: float32[..1024,4]" in result.stdout
    assert "2 steps: 1 Compress, 1 Mul" in result.stdout
    data = json.loads(edgert("inspect", fake, "--json").stdout)
    assert data["operators"] == {"Mul": 1, "Compress": 1}
    assert data["memory"]["live_bytes"] == [fake_artifact.ROWS * fake_artifact.COLUMNS * 4] * 2


def test_the_arena_is_drawn(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    picture = tmp_path / "m.svg"
    assert edgert("inspect", fake, "--plot", picture).exit_code == 0
    titles = [element.text or "" for element in ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["copy: 16.0 KiB at 0, steps 0 to 1"]


def test_boxes_stand_where_the_buffers_are() -> None:
    plan = [
        {"name": "<a>", "offset": 0, "size": 64, "first": 0, "last": 1},
        {"name": "b", "offset": 64, "size": 128, "first": 1, "last": 3},
    ]
    assert live_bytes(plan, 4) == [64, 192, 128, 128]
    root = ET.fromstring(memory_svg("t", 192, plan, 4))
    boxes = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if list(e)]
    a, b = ({key: float(box.attrib[key]) for key in ("x", "y", "width", "height")} for box in boxes)
    assert b["height"] == 2 * a["height"]
    assert abs(b["width"] - 1.5 * a["width"]) < 0.02
    assert abs(b["y"] + b["height"] - a["y"]) < 0.02


def test_wrong_use(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    assert_one_line(edgert("inspect", fake, "--plot", tmp_path / "m.png"), 2, ".svg")
    assert_one_line(edgert("inspect", fake, "--shape", "x=1x4"), 2, "is an artifact")
    assert_one_line(edgert("inspect", fake, "--ram", "4K"), 2, "is an artifact")


def test_memory_as_a_page_names_what_has_room_for_a_name(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    page = tmp_path / "memory.html"
    assert edgert("inspect", fake, "--plot", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "<title>" in text and "</svg>" in text
    plan = [
        {"name": "wide & long", "offset": 0, "size": 600, "first": 0, "last": 9},
        {"name": "flat", "offset": 600, "size": 1, "first": 0, "last": 9},
    ]
    root = ET.fromstring(memory_svg("t", 640, plan, 10))
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert "wide & long" in words and "flat" not in words
