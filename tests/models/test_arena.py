"""How much memory real models need for their activations: no more than once was reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.frontend import load
from compiler.pipeline import plan_graph
from compiler.placement import Placement
from compiler.zoo import pull
from targets import all_targets, get_target
from tests.models.quantized import shared
from tests.models.real import MODELS

pytestmark = pytest.mark.slow

# Bytes on every target with AVX2. Inputs and outputs are the caller's; scratch of kernels counts.
FLOAT = {
    "magika": 1_564_672,
    "silero-vad": 6_720,
    "mobilenet-v2": 6_021_120,
    "efficientnet-lite0": 6_021_120,
    "minilm": 983_552,
    "ppocr-det": 12_204_032,
}
GIVEN = {"models/vww/vww_96_qdq_int8.onnx": 55_296, "models/kws/kws_qdq_int8.onnx": 16_000}
X86 = sorted(name for name in all_targets() if name.startswith("x86-64"))


def planned(model: Path, target: str, **shapes: dict) -> Placement:
    graph, facts = load(model, shapes.get("shapes", {}), shapes.get("dims", {}))
    return plan_graph(graph, facts, get_target(target))[1]


@pytest.mark.parametrize("target", X86)
@pytest.mark.parametrize("name", GIVEN)
def test_quantized_models(name: str, target: str) -> None:
    placement = planned(shared(name), target)
    assert placement.arena_bytes <= GIVEN[name]
    assert placement.arena_bytes == placement.lower_bound


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-avx512"])
@pytest.mark.parametrize("name", FLOAT)
def test_the_six_models(name: str, target: str, tmp_path: Path) -> None:
    model = MODELS[name]
    placement = planned(pull(name, tmp_path), target, shapes=model.shapes, dims=model.dims)
    assert placement.arena_bytes <= FLOAT[name]
    assert placement.arena_bytes == placement.lower_bound
