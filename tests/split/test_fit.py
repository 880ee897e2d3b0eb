"""Split networks give the answers of whole ones, in less memory; what cannot fit is refused with figures that hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.errors import DoesNotFit
from edgert.interface.bench import total_macs
from tests.compiler.small import same
from tests.split.nets import NETS


def refused(model: Path, ram: int) -> tuple[str, int]:
    """The message for a budget that cannot be met, and the nearest one it names."""
    with pytest.raises(DoesNotFit) as error:
        edgert.compile(model, model.with_suffix(".none"), golden=False, ram=ram)
    assert not model.with_suffix(".none").exists()
    found = re.search(r"--ram (\d+)\.", str(error.value))
    assert found is not None, str(error.value)
    return str(error.value), int(found[1])


def load(model: Path, ram: int | None = None) -> edgert.Model:
    out = model.with_suffix(f".{ram}.edge")
    edgert.compile(model, out, golden=False, ram=ram)
    return edgert.load(out, threads=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_split_equals_whole(name: str, tmp_path: Path) -> None:
    path = NETS[name](tmp_path / "m.onnx")
    whole = load(path)
    need = whole.manifest["arena_bytes"]
    assert "split" not in whole.manifest, "nothing is split without a budget"
    text, floor = refused(path, 256)
    assert "have 256 " in text and f"whole operators take {need}" in text and "step" in text
    assert floor < 0.75 * need, "a network made to be split"
    x = whole.manifest["inputs"][0]["shape"]
    rng = np.random.default_rng(5)
    feeds = {"x": rng.standard_normal(x).astype(np.float32)}
    wanted = whole.run(feeds)
    assert np.abs(wanted["y"]).max() > 0
    for ram in sorted({floor, (floor + need) // 2, need - 1}):
        model = load(path, ram)
        told = model.manifest["split"]
        assert model.manifest["arena_bytes"] <= ram
        assert told["regions"] and all(r["bands"] > 1 for r in told["regions"])
        more = 100 * (total_macs(model.manifest) / total_macs(whole.manifest) - 1)
        assert told["extra_macs_percent"] == pytest.approx(more, abs=0.01)
        if name in (
            "scores",
            "heads",
        ):  # fewer rows may take another template, which adds the same products in another order
            same(model.run(feeds), wanted, terms=80)
        else:
            assert model.run(feeds)["y"].tobytes() == wanted["y"].tobytes()
    assert refused(path, floor - 1)[1] == floor


def test_enough_memory_splits_nothing(tmp_path: Path) -> None:
    path = NETS["residual"](tmp_path / "m.onnx")
    whole = load(path)
    model = load(path, whole.manifest["arena_bytes"])
    assert model.manifest["split"]["regions"] == []
    assert model.manifest["steps"] == whole.manifest["steps"] and model.manifest["plan"] == whole.manifest["plan"]
