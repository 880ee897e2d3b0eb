"""Visual wake words in int8 within 32 KiB: the same bits for at most a fifth more work; 2 KiB are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.cli import main
from edgert.interface.bench import total_macs

SHARED = Path(__file__).parents[3] / "shared"
MODEL, PICTURES = SHARED / "models/vww/vww_96_qdq_int8.onnx", SHARED / "data/vww/vww_500.npz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODEL.exists() and PICTURES.exists()), reason="needs the given model and pictures"),
]


def test_the_same_bits_in_32_kib(tmp_path: Path) -> None:
    whole = edgert.compile(MODEL, tmp_path / "whole.edge", golden=False).manifest
    split = edgert.compile(MODEL, tmp_path / "split.edge", golden=False, ram=32 << 10).manifest
    assert split["arena_bytes"] <= 32 << 10 < whole["arena_bytes"]
    assert total_macs(whole) < total_macs(split) <= 1.2 * total_macs(whole)
    models = [edgert.load(tmp_path / f"{name}.edge", threads=2) for name in ("whole", "split")]
    name = whole["inputs"][0]["name"]
    with np.load(PICTURES) as data:
        images = data["images"][:100].astype(np.float32) / 255
    seen = set()
    for image in images:
        (one,), (other,) = (
            list(model.run({name: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}).values()) for model in models
        )
        assert one.tobytes() == other.tobytes()
        seen.add(one.tobytes())
    assert len(seen) > 10, "pictures that the network tells apart"


def test_2_kib_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.edge"
    with pytest.raises(SystemExit) as end:
        main.main(["compile", str(MODEL), "-o", str(out), "--ram", "2K", "--no-golden"])
    assert end.value.code == 4 and not out.exists()
    message = capsys.readouterr().err
    for told in ("have 2048", "need ", "nearest budget that works", "The most is alive in step"):
        assert told in message
