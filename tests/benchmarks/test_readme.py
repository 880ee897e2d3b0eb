"""How measured tables get into README.md."""

from pathlib import Path

import pytest

from benchmarks.readme import README, markdown, marked, replace_between, update


def test_only_what_stands_between_changes(tmp_path: Path) -> None:
    path = tmp_path / "r.md"
    path.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n")
    update("x", markdown(["m", "ms"], [["one", 1.5]]), path)
    want = "a\n<!-- x:begin -->\n| m | ms |\n| --- | ---: |\n| one | 1.5 |\n<!-- x:end -->\nb\n"
    assert path.read_text() == want
    update("x", markdown(["m", "ms"], [["one", 1.5]]), path)
    assert path.read_text() == want
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.md"]


def test_one_part_of_what_was_written_together_is_replaced_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.md"
    path.write_text("<!-- x:begin --><!-- x:end -->")
    update("x", marked("x-a", "one") + marked("x-b", "two"), path)
    update("x-b", "three", path)
    assert "one" in path.read_text()
    assert "three" in path.read_text()
    assert "two" not in path.read_text()
    update("x", "all", path)
    assert path.read_text() == "<!-- x:begin -->\nall\n<!-- x:end -->"


@pytest.mark.parametrize("text", ["", "<!-- x:begin -->", "<!-- x:end --><!-- x:begin -->", "<!-- x:begin -->" * 2])
def test_missing_markers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="markers"):
        replace_between(text, "x", "new")


@pytest.mark.parametrize("marker", ["bench", "operators", "memory", "budgets"])
def test_the_readme_has_the_markers(marker: str) -> None:
    text = README.read_text()
    assert "new" in replace_between(text, marker, "new")
