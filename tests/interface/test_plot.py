"""The picture of an arena: boxes where the buffers are, one scale for before and after, names in their room."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise

import pytest

from edgert.interface.memory import live_bytes, peak_of
from edgert.interface.plot import memory_html, memory_svg
from edgert.interface.plot_panel import COLOURS, Panel
from edgert.interface.plot_text import LETTER, fitting, spread, step_ticks

SVG = "{http://www.w3.org/2000/svg}"
PLAN = [
    {"name": "<a>", "offset": 0, "size": 64, "first": 0, "last": 1},
    {"name": "b", "offset": 64, "size": 128, "first": 1, "last": 3},
]


def panel(plan: Sequence[dict], steps: int, arena: int, caption: str = "c") -> Panel:
    return Panel(caption, arena, plan, [f"kernel{i}" for i in range(steps)])


def boxes(svg: str) -> list[dict[str, float]]:
    """Of every buffer's box in order: x, y, width and height."""
    found = (e for e in ET.fromstring(svg).iter(f"{SVG}rect") if e.get("class") == "buffer")
    return [{key: float(e.attrib[key]) for key in ("x", "y", "width", "height")} for e in found]


def words(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter(f"{SVG}text")]


def test_boxes_stand_where_the_buffers_are() -> None:
    a, b = boxes(memory_svg("t", [panel(PLAN, 4, 192)]))
    assert b["height"] == pytest.approx(2 * a["height"], abs=0.02)  # coordinates have two decimals
    assert b["width"] == pytest.approx(1.5 * a["width"], abs=0.02)
    assert b["y"] + b["height"] == pytest.approx(a["y"], abs=0.02)
    assert b["x"] == pytest.approx(a["x"] + a["width"] / 2, abs=0.02)


def test_before_and_after_have_one_scale_of_bytes_and_do_not_overlap() -> None:
    split = [
        {"name": "a.0", "offset": 0, "size": 32, "first": 0, "last": 4},
        {"name": "a.1", "offset": 32, "size": 32, "first": 3, "last": 8},
    ]
    svg = memory_svg("t", [panel(PLAN, 4, 192, "before"), panel(split, 9, 64, "after")], budget=80)
    a, b, first, second = boxes(svg)
    assert first["height"] == pytest.approx(a["height"] / 2, abs=0.02)
    assert min(first["y"], second["y"]) > max(box["y"] + box["height"] for box in (a, b))
    texts = words(svg)
    assert texts.index("before") < texts.index("after")
    assert texts.count("budget 80 B") == 2
    assert "peak: 192 B live in step 1, kernel1" in texts
    assert "peak: 64 B live in step 3, kernel3" in texts


def test_a_far_budget_leaves_the_boxes_large() -> None:
    near, far = (memory_svg("t", [panel(PLAN, 4, 192)], budget) for budget in (None, 1 << 30))
    assert near == far


def test_arena_and_peak_are_told_apart_where_there_are_gaps() -> None:
    texts = words(memory_svg("t", [panel(PLAN, 4, 256)]))
    assert "arena 256 B" in texts and "peak 192 B" in texts
    assert "arena = peak 192 B" in words(memory_svg("t", [panel(PLAN, 4, 192)]))


def test_neighbours_differ_in_colour() -> None:
    plan = [{"name": f"t{i}", "offset": 64 * i, "size": 64, "first": 0, "last": 1} for i in range(20)]
    svg = memory_svg("t", [panel([*plan[::2], *plan[1::2]], 2, 1280)])
    found = [e for e in ET.fromstring(svg).iter(f"{SVG}rect") if e.get("class") == "buffer"]
    by_height = [e.get("fill") for e in sorted(found, key=lambda e: float(e.attrib["y"]))]
    assert all(one != other for one, other in pairwise(by_height))
    assert set(by_height) <= set(COLOURS)


def test_names_stand_where_there_is_room() -> None:
    plan = [
        {"name": "wide & long", "offset": 0, "size": 600, "first": 0, "last": 9},
        {"name": "flat", "offset": 600, "size": 1, "first": 0, "last": 9},
    ]
    texts = words(memory_svg("t", [panel(plan, 10, 640)]))
    assert "wide & long" in texts and "600 B" in texts and "flat" not in texts


def test_a_narrow_box_has_its_name_upright() -> None:
    plan = [{"name": "encoder.layer.0.output", "offset": 0, "size": 600, "first": 7, "last": 7}]
    svg = memory_svg("t", [panel(plan, 50, 600)])
    (name,) = (e for e in ET.fromstring(svg).iter(f"{SVG}text") if e.text == "encoder.layer.0.output")
    assert name.attrib["transform"].startswith("rotate(-90 ")


@pytest.mark.parametrize("room", range(0, 200, 7))
def test_a_cut_name_keeps_its_end_and_its_room(room: int) -> None:
    name = "features.2.conv.0.1.relu6"
    cut = fitting(name, room)
    assert len(cut) * LETTER <= room
    assert cut in ("", name) or (cut[0] == "…" and name.endswith(cut[1:]) and len(cut) > 1)


def test_labels_of_close_lines_do_not_cover_each_other() -> None:
    assert spread([10, 11, 40], 15) == [10, 25, 40]
    assert spread([], 15) == []


def test_steps_are_numbered_with_room_between() -> None:
    assert list(step_ticks(4, 100)) == [0, 1, 2, 3]
    assert list(step_ticks(100, 10)) == list(range(0, 100, 5))


def test_live_bytes_and_their_peak() -> None:
    live = live_bytes(PLAN, 4)
    assert live == [64, 192, 128, 128]
    assert peak_of(live) == (1, 192)
    assert peak_of([]) is None


def test_an_empty_arena_has_a_picture() -> None:
    assert boxes(memory_svg("t", [panel([], 0, 0), panel([], 3, 0)], budget=0)) == []


def test_a_page_holds_the_picture_and_escapes_its_title() -> None:
    svg = memory_svg("a<b", [panel(PLAN, 4, 192)])
    page = memory_html("a<b", svg)
    assert page.startswith("<!doctype html>") and svg in page
    assert "<title>a&lt;b</title>" in page and "&lt;a&gt;: 64 B at 0, steps 0 to 1" in page
    assert "{{" not in page
