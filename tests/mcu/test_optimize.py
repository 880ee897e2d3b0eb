"""`--optimize`: a compile for speed finds the tiles that were counted on the simulator, and takes as much less."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgert
from edgert.errors import UsageError
from edgert.interface.counted import count
from edgert.placing import Placing
from edgert.tuning.tune import tune
from tests.mcu import nets
from tests.mcu.test_simulators import on_device


def test_speed_takes_what_was_counted(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tmp_path / "records.json"
    found = tune(str(tiny), "cortex-m3", trials=2, output=str(records))
    kept = json.loads(records.read_text())
    assert found.unit == "instructions" and found.rounds == 3 and found.kernels == len(kept) == 4
    assert all(entry["instructions"] <= entry["default_instructions"] for entry in kept.values())
    changed = [key for key, entry in kept.items() if entry["config"]]
    assert len(changed) == found.changed > 0
    monkeypatch.setattr("compiler.tune.records.SHIPPED", tmp_path)
    records.rename(tmp_path / "cortex-m3.json")
    counts, inputs = {}, nets.samples(2)
    answers = {}
    for optimize in ("size", "speed"):
        path = tmp_path / f"{optimize}.elf"
        edgert.compile(tiny, path, target="cortex-m3", emit="elf", placing=Placing(optimize=optimize))
        counts[optimize] = count(str(path), "sim://cortex-m3").instructions
        answers[optimize] = [out.tobytes() for out in on_device(path, "sim://cortex-m3", inputs)[0]]
    gain = sum(kept[key]["default_instructions"] - kept[key]["instructions"] for key in changed)
    # other tiles are other addresses, which the entry may take an instruction more or less for
    assert abs(counts["size"] - counts["speed"] - gain) < 20 < gain
    assert answers["size"] == answers["speed"]


def test_wrong_uses_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are size and speed"):
        edgert.compile(tiny, tmp_path / "a", target="cortex-m3", placing=Placing(optimize="fast"))
    with pytest.raises(UsageError, match="--optimize is for microcontrollers"):
        edgert.compile(tiny, tmp_path / "a", placing=Placing(optimize="speed"))
    with pytest.raises(UsageError, match="counts on the simulator"):
        edgert.compile(tiny, tmp_path / "a", target="cortex-m3", tune=3)
    assert not (tmp_path / "a").exists()
