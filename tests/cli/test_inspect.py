"""inspect on an artifact, the picture of its arena, and what a budget of memory would do to a model."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

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


def test_wrong_use(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    assert_one_line(edgert("inspect", fake, "--plot", tmp_path / "m.png"), 2, ".svg")
    assert_one_line(edgert("inspect", fake, "--shape", "x=1x4"), 2, "is an artifact")
    assert_one_line(edgert("inspect", fake, "--ram", "4K"), 2, "is an artifact")


def test_memory_as_a_page(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    page = tmp_path / "memory.html"
    assert edgert("inspect", fake, "--plot", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "<title>copy: 16.0 KiB" in text and "</svg>" in text


WHOLE = {
    "arena_bytes": 96,
    "macs": 10,
    "steps": ["first"],
    "plan": [{"name": "t", "offset": 32, "size": 64, "first": 0, "last": 0}],
}
REGION = {"from": "a", "to": "b", "operators": 2, "bands": 3, "of": "rows"}
SPLIT = {"ram": 64, "regions": [REGION], "extra_macs": 1, "extra_macs_percent": 10.0, "least_estimate": 9}


def with_split(fake: Path, path: Path, split: Any) -> Path:
    """The artifact `fake` with an entry `split` in its manifest."""
    fake_artifact.make_artifact(path, fake.with_name("fake_model.so"), split=split)
    return path


def test_an_artifact_tells_of_its_split(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    path = with_split(fake, tmp_path / "s.edge", {**SPLIT, "whole": WHOLE})
    data = json.loads(edgert("inspect", path, "--json").stdout)
    assert data["split"]["regions"] == [REGION] and data["split"]["extra_macs"] == 1
    assert data["split"]["whole"]["live_bytes"] == [64]
    assert data["split"]["whole"]["peak"] == {"step": 0, "name": "first", "bytes": 64}
    text = edgert("inspect", path).stdout
    assert "budget  64 B: operators split, 10.0 % more" in text and "2 operators up to b in 3 bands of rows" in text
    assert "the arena would be 96 B" in text


@pytest.mark.parametrize(
    "split",
    [
        [],
        {"ram": 64},
        {**SPLIT, "regions": [{}]},
        {**SPLIT, "regions": 3},
        {**SPLIT, "whole": {}},
        {**SPLIT, "whole": {**WHOLE, "plan": [3]}},
        {**SPLIT, "whole": {**WHOLE, "plan": 3}},
        {**SPLIT, "whole": {**WHOLE, "steps": []}},
        {**SPLIT, "whole": {**WHOLE, "arena_bytes": 95}},
        {**SPLIT, "whole": {**WHOLE, "arena_bytes": "96"}},
    ],
)
def test_a_split_that_makes_no_sense_is_refused(edgert: Edgert, fake: Path, tmp_path: Path, split: Any) -> None:
    path = with_split(fake, tmp_path / "s.edge", split)
    assert_one_line(edgert("inspect", path), 1, "s.edge is damaged", "split")


@pytest.mark.slow
def test_a_model_before_and_after_a_budget(edgert: Edgert, tmp_path: Path) -> None:
    from tests.split.nets import heads  # needs onnx

    model, picture = heads(tmp_path / "heads.onnx"), tmp_path / "m.svg"
    whole = json.loads(edgert("inspect", model, "--json").stdout)
    need = whole["memory"]["arena_bytes"]
    assert "split" not in whole
    told = json.loads(edgert("inspect", model, "--ram", need - 1, "--plot", picture, "--json").stdout)
    split = told["split"]
    assert told["memory"]["arena_bytes"] < need
    assert split["whole"]["plan"] == whole["memory"]["plan"]
    assert split["whole"]["live_bytes"] == whole["memory"]["live_bytes"]
    assert split["whole"]["macs"] == whole["macs"] == told["macs"] - split["extra_macs"]
    titles = [e.text or "" for e in ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}title")]
    plans = [*whole["memory"]["plan"], *told["memory"]["plan"]]
    assert [title.rpartition(": ")[0] for title in titles] == [buffer["name"] for buffer in plans]
    roomy = json.loads(edgert("inspect", model, "--ram", need, "--plot", picture, "--json").stdout)
    assert roomy["split"]["regions"] == [] and roomy["memory"] == whole["memory"]
