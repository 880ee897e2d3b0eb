"""The arena as a run really uses it: what is in it before changes nothing, nothing is written beside it, and all of it
is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgert
from compiler.golden import make_inputs
from compiler.zoo import pull
from tests.models.quantized import shared
from tests.models.real import MODELS

pytestmark = pytest.mark.slow

GUARD, LINE = 4096, 64
QUANTIZED = ["models/vww/vww_96_qdq_int8.onnx", "models/kws/kws_qdq_int8.onnx"]


def run_painted(model: edgert.Model, feeds: dict[str, np.ndarray], paint: int) -> tuple[dict, np.ndarray]:
    """The outputs with an arena of `paint` between guards of the same, and that memory afterwards."""
    size = model.manifest["arena_bytes"]
    raw = np.full(size + 2 * GUARD + LINE, paint, np.uint8)
    start = -raw.ctypes.data % LINE
    around = raw[start : start + size + 2 * GUARD]
    own, model._arena_at = model._arena_at, around.ctypes.data + GUARD
    try:
        outputs = {name: array.copy() for name, array in model.run(feeds).items()}
    finally:
        model._arena_at = own
    return outputs, around


@pytest.mark.parametrize("name", ["silero-vad", "mobilenet-v2", "minilm", *QUANTIZED])
def test_predicted_peak_is_the_one_used(name: str, tmp_path: Path) -> None:
    artifact = tmp_path / "model.edge"
    if name in MODELS:
        known = MODELS[name]
        edgert.compile(pull(name, tmp_path), artifact, shapes=known.shapes, dims=known.dims, golden=False)
    else:
        edgert.compile(shared(name), artifact, golden=False)
    with edgert.load(artifact, threads=2) as model:
        manifest = dict(model.manifest)
        manifest["dims"] = [{**dim, "min": dim["max"]} for dim in manifest["dims"]]  # the plan is made for the largest
        feeds = make_inputs(manifest)
        (first, after), (second, other) = (run_painted(model, feeds, paint) for paint in (0xA5, 0x5A))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
    written = (after != 0xA5) | (other != 0x5A)
    assert not written[:GUARD].any() and not written[-GUARD:].any()
    top = int(np.flatnonzero(written).max()) + 1 - GUARD
    # buffers begin at whole lines, so up to a line above the last byte may be rounding
    assert manifest["arena_bytes"] - LINE < top <= manifest["arena_bytes"]
