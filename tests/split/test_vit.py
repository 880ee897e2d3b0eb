"""A vision transformer within a budget: tokens overwritten where they stand, attention one head after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgert
from quant.contract import Options
from quant.quantize import quantize
from tests.split.vit import vit

SIDES = {"small": 96, "deit-tiny": 224}


def pictures(side: int, count: int) -> list[dict[str, np.ndarray]]:
    """Smooth patches with some noise."""
    rng = np.random.default_rng(7)
    cells = rng.integers(0, 256, (count, 1, 3, side // 16, side // 16)).repeat(16, 3).repeat(16, 4)
    noisy = np.clip(cells + rng.normal(0, 20, cells.shape), 0, 255).astype(np.uint8)
    return [{"image": image} for image in noisy]


def quantized(folder: Path, size: str) -> Path:
    # of DeiT-Tiny's twelve layers four: they are alike, and what a plan costs to find grows with them
    shape = {"width": 64, "layers": 2, "heads": 2} if size == "small" else {"layers": 4}
    model = vit(folder / "vit.onnx", SIDES[size], **shape)
    quantize(model, folder / "vit.int8.onnx", "int8", pictures(SIDES[size], 8), Options())
    return folder / "vit.int8.onnx"


def beside(model: Path, ram: int, images: list[dict[str, np.ndarray]]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Manifests without and with the budget; the answers are the same in every bit."""
    manifests = []
    answers = []
    for name, limit in (("whole", None), ("split", ram)):
        path = model.with_suffix(f".{name}.edge")
        manifests.append(edgert.compile(model, path, golden=False, ram=limit).manifest)
        with edgert.load(path, threads=2) as loaded:
            answers.append([loaded.run(feeds)["logits"].tobytes() for feeds in images])
    assert answers[0] == answers[1] and len(set(answers[0])) == len(images)
    return manifests[0], manifests[1]


def longest(manifest: Mapping[str, Any]) -> float:
    """The longest life of a buffer, as a share of all steps."""
    return max(b["last"] - b["first"] for b in manifest["plan"]) / len(manifest["steps"])


def test_the_residual_stream_stays_in_one_place(tmp_path: Path) -> None:
    model = quantized(tmp_path, "small")
    whole, split = beside(model, 22 << 10, pictures(96, 3))
    assert split["arena_bytes"] <= 22 << 10 < whole["arena_bytes"]
    told = split["split"]
    assert told["serial_attentions"] == 2 and told["whole"]["arena_bytes"] == whole["arena_bytes"]
    assert longest(whole) < 0.4
    assert longest(split) > 0.8, "every layer's tokens lie over those of the layer before"


@pytest.mark.slow
def test_layers_of_deit_tiny_in_320_kib(tmp_path: Path) -> None:
    model = quantized(tmp_path, "deit-tiny")
    whole, split = beside(model, 320 << 10, pictures(224, 3))
    assert split["arena_bytes"] <= 320 << 10 < whole["arena_bytes"]
    assert split["split"]["extra_macs_percent"] < 1
    # also with the caller's picture counted, for as long as anything reads it
    used = sum(b["size"] for b in split["plan"] if b["first"] == 0)
    assert split["inputs"][0]["bytes"] + used <= 320 << 10
