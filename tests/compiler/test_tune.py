"""Tuning: what is measured is recorded, what is recorded is used, and a damaged record costs nothing but speed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import edgert
from compiler.tune import Records
from targets import get_target
from tests.compiler.small import reference, same, save

rng = np.random.default_rng(3)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGERT_CACHE", str(tmp_path / "cache"))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    weights = {"w": rng.standard_normal((64, 96)).astype(np.float32)}
    return save(tmp_path / "m.onnx", nodes, {"x": [48, 64]}, {"y": [48, 96]}, weights)


def test_two_trials_are_measured_recorded_and_give_the_right_answer(model: Path) -> None:
    out = model.with_suffix(".edge")
    edgert.compile(model, out, tune=2)
    records = Records(get_target())
    assert [key.split()[0] for key in records.found if "48x64" in key] == ["edgert.Gemm"]
    record = json.loads(records.path.read_text())
    assert all(
        set(entry) == {"config", "us", "default_us"} and entry["us"] <= entry["default_us"] for entry in record.values()
    )
    feeds = {"x": rng.standard_normal((48, 64)).astype(np.float32)}
    same(edgert.load(out).run(feeds), reference(model, feeds), terms=64)


def test_recorded_tiles_are_used_without_tuning(model: Path) -> None:
    out = model.with_suffix(".edge")
    edgert.compile(model, out, tune=1)
    records = Records(get_target())
    for entry in records.found.values():
        entry["config"] = {"mr": 3, "nr": 16}
    records.save()
    manifest = edgert.compile(model, out).manifest
    assert any("3x16" in step["kernel"] for step in manifest["steps"])


def test_damaged_records_are_passed_over(model: Path) -> None:
    path = Records(get_target()).path
    path.parent.mkdir(parents=True)
    path.write_text('{"edgert.Gemm": 5, "half')
    edgert.compile(model, model.with_suffix(".edge"))
